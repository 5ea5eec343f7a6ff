"""Protection of records by an AEAD algorithm (RFC 5246 §6.2.3.3, RFC 5288 §3, RFC 6655 §3, RFC 7905 §2)."""

import struct
from abc import ABC, abstractmethod

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from mediapeer.dtls.record import RECORD_VERSION
from mediapeer.dtls.registry import AeadAlgorithm, CipherSuiteParameters

TAG_LENGTH = 16
SHORT_TAG_LENGTH = 8
"The tag of AES-CCM-8 (RFC 6655 §3)."
EXPLICIT_NONCE_LENGTH = 8

_ADDITIONAL_DATA = struct.Struct("!QBHH")  # epoch and sequence number, type, version, length of the plaintext


class RecordProtection(ABC):
    """Seals and opens the fragments of one direction of one epoch. Nonces are made from sequence numbers only."""

    expansion: int
    "How many bytes longer than its plaintext a sealed fragment is."

    @abstractmethod
    def seal(self, content_type: int, epoch_and_sequence_number: int, plaintext: bytes) -> bytes:
        """The fragment of a record that carries ``plaintext``."""

    @abstractmethod
    def open(self, content_type: int, epoch_and_sequence_number: int, fragment: bytes) -> bytes | None:
        """The plaintext of a fragment, or ``None`` when it is not authentic."""


class ExplicitNonceProtection(RecordProtection):
    """AES with half of the nonce in the record; it is the sequence number (RFC 5288 §3, RFC 6655 §3).

    :param tag_length: how many bytes the algorithm adds.
    """

    def __init__(self, aead: AESGCM | AESCCM, fixed_iv: bytes, tag_length: int) -> None:
        self.expansion = EXPLICIT_NONCE_LENGTH + tag_length
        self._aead = aead
        self._salt = fixed_iv

    def seal(self, content_type: int, epoch_and_sequence_number: int, plaintext: bytes) -> bytes:
        """See :meth:`RecordProtection.seal`."""
        additional_data = _ADDITIONAL_DATA.pack(
            epoch_and_sequence_number, content_type, RECORD_VERSION, len(plaintext)
        )
        explicit_nonce = additional_data[:EXPLICIT_NONCE_LENGTH]
        return explicit_nonce + self._aead.encrypt(self._salt + explicit_nonce, plaintext, additional_data)

    def open(self, content_type: int, epoch_and_sequence_number: int, fragment: bytes) -> bytes | None:
        """See :meth:`RecordProtection.open`."""
        length = len(fragment) - self.expansion
        if length < 0:
            return None
        additional_data = _ADDITIONAL_DATA.pack(
            epoch_and_sequence_number, content_type, RECORD_VERSION, length
        )
        nonce = self._salt + fragment[:EXPLICIT_NONCE_LENGTH]
        try:
            return self._aead.decrypt(nonce, fragment[EXPLICIT_NONCE_LENGTH:], additional_data)
        except InvalidTag:
            return None


class AesGcmProtection(ExplicitNonceProtection):
    """AES-GCM (RFC 5288 §3)."""

    def __init__(self, key: bytes, fixed_iv: bytes) -> None:
        super().__init__(AESGCM(key), fixed_iv, TAG_LENGTH)


class AesCcmProtection(ExplicitNonceProtection):
    """AES-CCM (RFC 6655 §3).

    :param tag_length: 16 bytes, or 8 in the suites that say so.
    """

    def __init__(self, key: bytes, fixed_iv: bytes, tag_length: int) -> None:
        super().__init__(AESCCM(key, tag_length), fixed_iv, tag_length)


class ChaCha20Poly1305Protection(RecordProtection):
    """ChaCha20-Poly1305 whose nonce is the IV combined with the sequence number (RFC 7905 §2)."""

    expansion = TAG_LENGTH

    def __init__(self, key: bytes, fixed_iv: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._iv = int.from_bytes(fixed_iv, "big")

    def seal(self, content_type: int, epoch_and_sequence_number: int, plaintext: bytes) -> bytes:
        """See :meth:`RecordProtection.seal`."""
        additional_data = _ADDITIONAL_DATA.pack(
            epoch_and_sequence_number, content_type, RECORD_VERSION, len(plaintext)
        )
        nonce = (self._iv ^ epoch_and_sequence_number).to_bytes(12, "big")
        return self._aead.encrypt(nonce, plaintext, additional_data)

    def open(self, content_type: int, epoch_and_sequence_number: int, fragment: bytes) -> bytes | None:
        """See :meth:`RecordProtection.open`."""
        length = len(fragment) - TAG_LENGTH
        if length < 0:
            return None
        additional_data = _ADDITIONAL_DATA.pack(
            epoch_and_sequence_number, content_type, RECORD_VERSION, length
        )
        nonce = (self._iv ^ epoch_and_sequence_number).to_bytes(12, "big")
        try:
            return self._aead.decrypt(nonce, fragment, additional_data)
        except InvalidTag:
            return None


def record_protection(parameters: CipherSuiteParameters, key: bytes, fixed_iv: bytes) -> RecordProtection:
    """The protection of a cipher suite with one direction's key and IV."""
    match parameters.aead:
        case AeadAlgorithm.CHACHA20_POLY1305:
            return ChaCha20Poly1305Protection(key, fixed_iv)
        case AeadAlgorithm.AES_128_CCM:
            return AesCcmProtection(key, fixed_iv, TAG_LENGTH)
        case AeadAlgorithm.AES_128_CCM_8:
            return AesCcmProtection(key, fixed_iv, SHORT_TAG_LENGTH)
        case _:
            return AesGcmProtection(key, fixed_iv)
