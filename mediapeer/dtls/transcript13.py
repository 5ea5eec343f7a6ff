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

    def digest_up_to_binders(self, hash_name: str, hello: bytes, binders_length: int) -> bytes:
        """The hash of all messages so far and of a ClientHello without its binders (RFC 8446 §4.2.11.2).

        :param hash_name: of the PSK, as :mod:`hashlib` names it; before a hash is chosen there may be several.
        :param hello: the whole body of the ClientHello.
        """
        header = HandshakeType.CLIENT_HELLO.to_bytes(1, "big") + len(hello).to_bytes(3, "big")
        digest = self._hash.copy() if self._hash is not None else hashlib.new(hash_name, self._early)
        digest.update(header + hello[: len(hello) - binders_length])
        return digest.digest()

    def digest(self) -> bytes:
        """The hash of all messages so far. The hash must have been chosen."""
        return self._hash.copy().digest() if self._hash is not None else b""
