"""The transcript of DTLS 1.3 (RFC 8446 §4.4.1, RFC 9147 §5.2)."""

import hashlib

from mediapeer.dtls.registry import HandshakeType


class Transcript:
    """Handshake messages with the header of TLS: without the three fields that DTLS adds to it.

    Messages are kept until :meth:`choose_hash`, for the first of them come before the hash is known.
    """

    def __init__(self) -> None:
        self._early = bytearray()
        self._hash: hashlib._Hash | None = None
        self.hash_name = ""

    def choose_hash(self, hash_name: str) -> None:
        """Settle on the hash of the cipher suite."""
        self.hash_name = hash_name
        self._hash = hashlib.new(hash_name, self._early)
        self._early.clear()

    def add(self, handshake_type: int, body: bytes) -> None:
        """Append a message."""
        message = handshake_type.to_bytes(1, "big") + len(body).to_bytes(3, "big") + body
        if self._hash is None:
            self._early += message
        else:
            self._hash.update(message)

    def restart_from_hash(self, digest: bytes) -> None:
        """Begin with one message_hash in the place of the first ClientHello (after a HelloRetryRequest)."""
        self._hash = hashlib.new(self.hash_name)
        self.add(HandshakeType.MESSAGE_HASH, digest)

    def digest(self) -> bytes:
        """The hash of all messages so far. The hash must have been chosen."""
        return self._hash.copy().digest() if self._hash is not None else b""
