"""Protection of records in DTLS 1.3: the AEAD (RFC 8446 §5.2) and the mask over record numbers (RFC 9147 §4.2.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from mediapeer.dtls.key_schedule13 import TrafficKeys
from mediapeer.dtls.registry import AeadAlgorithm

SAMPLE_LENGTH = 16
"How many bytes of ciphertext make the mask; a record must have as many (RFC 9147 §4.2.3)."

Mask = Callable[[bytes], bytes]
"From the first bytes of a ciphertext to the mask, of which two bytes are used."


class Aead(Protocol):
    """What the AEAD classes of ``cryptography`` have in common."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | bytearray | None) -> bytes:
        """Seal ``data``."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | bytearray | None) -> bytes:
        """Open ``data``, or raise ``InvalidTag``."""


@dataclass(frozen=True, slots=True)
class AeadLimits:
    """How far one key may be used (RFC 9147 §4.5.3, RFC 8446 §5.5)."""

    records_sealed: int
    "After so many a KeyUpdate is due; well below what is allowed."
    failed_openings: int
    "After so many forgeries the association ends."


_UNLIMITED = 2**48 - 1

AEAD_LIMITS = {
    AeadAlgorithm.AES_128_GCM: AeadLimits(2**23, 2**36),
    AeadAlgorithm.AES_256_GCM: AeadLimits(2**23, 2**36),
    AeadAlgorithm.CHACHA20_POLY1305: AeadLimits(_UNLIMITED, 2**36),
    AeadAlgorithm.AES_128_CCM: AeadLimits(2**22, 2**23),
    # With a tag of 8 bytes a forgery succeeds once in 2^64 tries; few are allowed (RFC 9147 §4.5.3).
    AeadAlgorithm.AES_128_CCM_8: AeadLimits(2**22, 2**7),
}

TAG_LENGTHS = dict.fromkeys(AeadAlgorithm, 16) | {AeadAlgorithm.AES_128_CCM_8: 8}


def aead(algorithm: AeadAlgorithm, key: bytes) -> Aead:
    """The algorithm with a key."""
    match algorithm:
        case AeadAlgorithm.CHACHA20_POLY1305:
            return ChaCha20Poly1305(key)
        case AeadAlgorithm.AES_128_CCM | AeadAlgorithm.AES_128_CCM_8:
            return AESCCM(key, TAG_LENGTHS[algorithm])
        case _:
            return AESGCM(key)


def record_number_mask(algorithm: AeadAlgorithm, keys: TrafficKeys) -> Mask:
    """The mask function of an algorithm (RFC 9147 §4.2.3): AES in ECB mode, or a block of ChaCha20."""
    if algorithm is AeadAlgorithm.CHACHA20_POLY1305:
        return chacha20_mask(keys.sequence_number_key)
    # ECB of one block at a time is what the mask is defined as; the object is made once, for that is dear.
    return Cipher(algorithms.AES(keys.sequence_number_key), modes.ECB()).encryptor().update  # noqa: S305


def chacha20_mask(key: bytes) -> Mask:
    """The mask of ChaCha20: the sample is block counter and nonce (RFC 9147 §4.2.3)."""
    zeros = bytes(5)
    context = Cipher(algorithms.ChaCha20(key, bytes(SAMPLE_LENGTH)), None).encryptor()

    def mask(sample: bytes) -> bytes:
        context.reset_nonce(sample)  # so that the context, which is dear, is made once
        return context.update(zeros)

    return mask
