"""Secrets of DTLS 1.2: the PRF (RFC 5246 §5), what is made of it, and the exporter (RFC 5705)."""

import hashlib
import hmac
from dataclasses import dataclass

from mediapeer.dtls.codec import vector
from mediapeer.dtls.messages import VERIFY_DATA_LENGTH
from mediapeer.dtls.registry import CipherSuiteParameters

MASTER_SECRET_LENGTH = 48

CLIENT_FINISHED_LABEL = b"client finished"
SERVER_FINISHED_LABEL = b"server finished"


def prf(hash_name: str, secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """``PRF(secret, label, seed)``, that is P_hash over label and seed (RFC 5246 §5), ``length`` bytes of it."""
    labelled_seed = label + seed
    output = bytearray()
    a = labelled_seed
    while len(output) < length:
        a = hmac.digest(secret, a, hash_name)
        output += hmac.digest(secret, a + labelled_seed, hash_name)
    return bytes(output[:length])


def psk_premaster_secret(key: bytes, shared_secret: bytes | None) -> bytes:
    """The premaster secret of a PSK suite (RFC 4279 §2, RFC 5489 §2).

    :param shared_secret: what the key exchange came to, or ``None`` where there is none.
    """
    other_secret = bytes(len(key)) if shared_secret is None else shared_secret
    return vector(other_secret, 2) + vector(key, 2)


@dataclass(frozen=True, slots=True, repr=False)
class KeyBlock:
    """What the key block is cut into for an AEAD suite (RFC 5246 §6.3)."""

    client_write_key: bytes
    server_write_key: bytes
    client_write_iv: bytes
    server_write_iv: bytes


class SessionSecrets:
    """The master secret of one association, and everything derived from it.

    :param parameters: those of the cipher suite; they name the hash of the PRF.
    """

    def __init__(
        self,
        parameters: CipherSuiteParameters,
        master_secret: bytes,
        client_random: bytes,
        server_random: bytes,
    ) -> None:
        self._parameters = parameters
        self._master_secret = master_secret
        self._client_random = client_random
        self._server_random = server_random

    @classmethod
    def from_premaster(
        cls,
        parameters: CipherSuiteParameters,
        premaster_secret: bytes,
        client_random: bytes,
        server_random: bytes,
        extended_transcript: bytes | None,
    ) -> "SessionSecrets":
        """Make the master secret.

        :param extended_transcript: the handshake messages up to ClientKeyExchange for the extended master secret
            (RFC 7627 §4), or ``None`` for the plain one (RFC 5246 §8.1).
        """
        hash_name = parameters.hash_name
        if extended_transcript is None:
            label, seed = b"master secret", client_random + server_random
        else:
            label = b"extended master secret"
            seed = hashlib.new(hash_name, extended_transcript).digest()
        master_secret = prf(hash_name, premaster_secret, label, seed, MASTER_SECRET_LENGTH)
        return cls(parameters, master_secret, client_random, server_random)

    @property
    def master_secret(self) -> bytes:
        """What a session is resumed with."""
        return self._master_secret

    def key_block(self) -> KeyBlock:
        """The keys and IVs of both directions (RFC 5246 §6.3)."""
        key_length, iv_length = self._parameters.key_length, self._parameters.fixed_iv_length
        block = prf(
            self._parameters.hash_name,
            self._master_secret,
            b"key expansion",
            self._server_random + self._client_random,
            2 * (key_length + iv_length),
        )
        ivs = 2 * key_length
        return KeyBlock(
            block[:key_length], block[key_length:ivs], block[ivs : ivs + iv_length], block[ivs + iv_length :]
        )

    def verify_data(self, label: bytes, transcript: bytes) -> bytes:
        """``verify_data`` of a Finished over the handshake messages before it (RFC 5246 §7.4.9)."""
        hash_name = self._parameters.hash_name
        digest = hashlib.new(hash_name, transcript).digest()
        return prf(hash_name, self._master_secret, label, digest, VERIFY_DATA_LENGTH)

    def is_verify_data(self, candidate: bytes, label: bytes, transcript: bytes) -> bool:
        """Whether the peer's ``verify_data`` is right. Takes the same time wherever it differs."""
        return hmac.compare_digest(candidate, self.verify_data(label, transcript))

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Keying material for another protocol (RFC 5705 §4). An empty context is not the same as none."""
        seed = self._client_random + self._server_random
        if context is not None:
            seed += len(context).to_bytes(2, "big") + context
        return prf(self._parameters.hash_name, self._master_secret, label, seed, length)

    def key_log_line(self) -> str:
        """The line of an NSS key log that opens this association to a protocol analyser. A secret."""
        return f"CLIENT_RANDOM {self._client_random.hex()} {self._master_secret.hex()}"
