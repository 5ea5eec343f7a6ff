"""Secrets of DTLS 1.3: HKDF (RFC 5869), the key schedule (RFC 8446 §7.1) with the label of RFC 9147 §5.9."""

import hashlib
import hmac
from dataclasses import dataclass

from mediapeer.dtls.registry import CipherSuiteParameters

LABEL_PREFIX = b"dtls13"
"Without the space that TLS 1.3 has at the end of its own (RFC 9147 §5.9)."


def hkdf_extract(hash_name: str, salt: bytes, input_keying_material: bytes) -> bytes:
    """HKDF-Extract (RFC 5869 §2.2)."""
    return hmac.digest(salt, input_keying_material, hash_name)


def hkdf_expand_label(hash_name: str, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1), ``length`` bytes of it."""
    full_label = LABEL_PREFIX + label
    info = b"".join(
        (
            length.to_bytes(2, "big"),
            len(full_label).to_bytes(1, "big"),
            full_label,
            len(context).to_bytes(1, "big"),
            context,
        )
    )
    output = block = b""
    counter = 1
    while len(output) < length:
        block = hmac.digest(secret, block + info + bytes([counter]), hash_name)
        output += block
        counter += 1
    return output[:length]


@dataclass(frozen=True, slots=True, repr=False)
class TrafficKeys:
    """What protects one direction of one epoch (RFC 8446 §7.3, RFC 9147 §4.2.3)."""

    key: bytes
    iv: bytes
    sequence_number_key: bytes


def traffic_keys(parameters: CipherSuiteParameters, traffic_secret: bytes) -> TrafficKeys:
    """Derive keys from a traffic secret."""
    hash_name = parameters.hash_name
    return TrafficKeys(
        hkdf_expand_label(hash_name, traffic_secret, b"key", b"", parameters.key_length),
        hkdf_expand_label(hash_name, traffic_secret, b"iv", b"", parameters.fixed_iv_length),
        hkdf_expand_label(hash_name, traffic_secret, b"sn", b"", parameters.key_length),
    )


def next_traffic_secret(hash_name: str, traffic_secret: bytes) -> bytes:
    """The secret that follows after a KeyUpdate (RFC 8446 §7.2)."""
    return hkdf_expand_label(hash_name, traffic_secret, b"traffic upd", b"", len(traffic_secret))


def finished_verify_data(hash_name: str, traffic_secret: bytes, transcript_hash: bytes) -> bytes:
    """``verify_data`` of the Finished that the owner of ``traffic_secret`` sends (RFC 8446 §4.4.4)."""
    key = hkdf_expand_label(hash_name, traffic_secret, b"finished", b"", len(traffic_secret))
    return hmac.digest(key, transcript_hash, hash_name)


class KeySchedule:
    """The ladder of secrets from the pre-shared key, if there is one, and the key exchange up.

    :param hash_name: the hash of the cipher suite, as :mod:`hashlib` names it.
    :param pre_shared_key: the PSK; empty when there is none.
    """

    def __init__(self, hash_name: str, pre_shared_key: bytes = b"") -> None:
        self.hash_name = hash_name
        self._length = hashlib.new(hash_name).digest_size
        zeros = bytes(self._length)
        self._secret = hkdf_extract(hash_name, zeros, pre_shared_key or zeros)  # the early secret

    def derive_secret(self, label: bytes, transcript_hash: bytes) -> bytes:
        """Derive-Secret with the secret that the ladder stands on (RFC 8446 §7.1)."""
        return hkdf_expand_label(self.hash_name, self._secret, label, transcript_hash, self._length)

    def _step(self, input_keying_material: bytes) -> None:
        salt = self.derive_secret(b"derived", hashlib.new(self.hash_name).digest())
        self._secret = hkdf_extract(self.hash_name, salt, input_keying_material)

    def enter_handshake(self, shared_secret: bytes) -> None:
        """Step up to the handshake secret."""
        self._step(shared_secret)

    def enter_application(self) -> None:
        """Step up to the master secret."""
        self._step(bytes(self._length))


def psk_binder(hash_name: str, pre_shared_key: bytes, label: bytes, transcript_hash: bytes) -> bytes:
    """The binder that proves the knowledge of a PSK (RFC 8446 §4.2.11.2).

    :param label: ``res binder``, ``ext binder`` or ``imp binder``, as the key was obtained.
    :param transcript_hash: of everything up to the ClientHello, which is cut off before its binders.
    """
    secret = KeySchedule(hash_name, pre_shared_key).derive_secret(label, hashlib.new(hash_name).digest())
    return finished_verify_data(hash_name, secret, transcript_hash)


def resumption_psk(hash_name: str, resumption_secret: bytes, ticket_nonce: bytes) -> bytes:
    """The PSK that goes with a ticket (RFC 8446 §4.6.1)."""
    return hkdf_expand_label(
        hash_name, resumption_secret, b"resumption", ticket_nonce, len(resumption_secret)
    )


class Exporter13:
    """The exporter of DTLS 1.3 (RFC 8446 §7.5)."""

    def __init__(self, hash_name: str, exporter_secret: bytes) -> None:
        self._hash_name = hash_name
        self._secret = exporter_secret

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Keying material for another protocol. Here an empty context is the same as none."""
        empty_hash = hashlib.new(self._hash_name).digest()
        secret = hkdf_expand_label(self._hash_name, self._secret, label, empty_hash, len(self._secret))
        context_hash = hashlib.new(self._hash_name, context or b"").digest()
        return hkdf_expand_label(self._hash_name, secret, b"exporter", context_hash, length)
