"""Sessions: what two ends remember of a handshake to shorten the next one (RFC 5246 §7.3, RFC 8446 §2.2)."""

from dataclasses import dataclass, replace

from mediapeer.dtls.codec import Reader, vector
from mediapeer.dtls.errors import DecodeError
from mediapeer.dtls.registry import CertificateType, CipherSuite, NamedGroup, ProtocolVersion

FORMAT = 1
"The version of the serialization; others are not read."
MAXIMUM_SKEW = 10.0
"By how many seconds the clocks of servers that share tickets may differ."


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """One session, as a client keeps it and as a server puts it into a ticket. It holds a secret.

    Times are those of the clock that the connections are given as ``now``: connections that share sessions, in one
    process or in several, share a clock (``time.time()`` does across restarts).
    """

    version: ProtocolVersion
    cipher_suite: CipherSuite
    secret: bytes
    "The master secret (DTLS 1.2) or the resumption PSK (1.3)."
    created_at: float
    "When the peer was authenticated, in seconds."
    lifetime: float
    "For how many seconds from :attr:`received_at` it is good."
    received_at: float
    "When the ticket came, or was given, in seconds."
    extended_master_secret: bool = True
    group: NamedGroup | None = None
    session_id: bytes = b""
    "By what name a server of DTLS 1.2 keeps it; empty when it has given a ticket."
    ticket: bytes = b""
    "What the server gave us to give back. Empty inside a ticket."
    age_add: int = 0
    "What is added to the age of the ticket so that nobody recognizes it (RFC 8446 §4.6.1)."
    server_name: str | None = None
    peer_certificate_type: CertificateType = CertificateType.X509
    peer_chain: tuple[bytes, ...] = ()
    "The peer's certificates, or its one raw public key; empty when it had none."
    ocsp_response: bytes = b""
    signed_certificate_timestamps: bytes = b""
    pre_shared_key_identity: bytes | None = None
    "The identity of the external PSK that the first handshake stood on; ``None`` when it stood on certificates."
    pre_shared_key_binding: bytes = b""
    "What tells that key from others of the same name; see :meth:`PreSharedKey.binding`."
    maximum_early_data: int = 0
    "How many bytes of 0-RTT data the server would take. Kept for whoever asks; none is ever sent."

    def __repr__(self) -> str:
        return f"Session({self.version.label}, {self.cipher_suite.name})"

    def is_fresh(self, now: float) -> bool:
        """Whether it may still be resumed."""
        return -MAXIMUM_SKEW <= now - self.received_at < self.lifetime

    def with_ticket(self, ticket: bytes, lifetime: float, now: float) -> "Session":
        """The same with a ticket that has just come (RFC 5077 §3.3)."""
        return replace(self, ticket=ticket, session_id=b"", lifetime=lifetime, received_at=now)

    def serialize(self) -> bytes:
        """For storage. Who can read it can read, and take part in, what is resumed with it."""
        return b"".join(
            (
                bytes([FORMAT]),
                self.version.to_bytes(2, "big"),
                self.cipher_suite.to_bytes(2, "big"),
                vector(self.secret, 1),
                _milliseconds(self.created_at),
                _milliseconds(self.lifetime),
                _milliseconds(self.received_at),
                bytes([self.extended_master_secret]),
                (self.group or 0).to_bytes(2, "big"),
                vector(self.session_id, 1),
                vector(self.ticket, 2),
                self.age_add.to_bytes(4, "big"),
                vector((self.server_name or "").encode("ascii"), 2),
                bytes([self.peer_certificate_type]),
                vector(b"".join(vector(certificate, 3) for certificate in self.peer_chain), 3),
                vector(self.ocsp_response, 3),
                vector(self.signed_certificate_timestamps, 2),
                bytes([self.pre_shared_key_identity is not None]),
                vector(self.pre_shared_key_identity or b"", 2),
                vector(self.pre_shared_key_binding, 1),
                self.maximum_early_data.to_bytes(4, "big"),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> "Session":
        """The reverse of :meth:`serialize`.

        :raises DecodeError: when it is none, or of another release.
        """
        reader = Reader(data)
        if reader.uint8() != FORMAT:
            raise DecodeError("the session was stored by another release")
        try:
            session = cls(
                version=ProtocolVersion(reader.uint16()),
                cipher_suite=CipherSuite(reader.uint16()),
                secret=reader.vector(1),
                created_at=_seconds(reader),
                lifetime=_seconds(reader),
                received_at=_seconds(reader),
                extended_master_secret=bool(reader.uint8()),
                group=NamedGroup(group) if (group := reader.uint16()) else None,
                session_id=reader.vector(1),
                ticket=reader.vector(2),
                age_add=int.from_bytes(reader.take(4), "big"),
                server_name=reader.vector(2).decode("ascii") or None,
                peer_certificate_type=CertificateType(reader.uint8()),
                peer_chain=_parse_chain(reader.vector(3)),
                ocsp_response=reader.vector(3),
                signed_certificate_timestamps=reader.vector(2),
                pre_shared_key_identity=_parse_identity(reader),
                pre_shared_key_binding=reader.vector(1),
                maximum_early_data=int.from_bytes(reader.take(4), "big"),
            )
        except ValueError as error:
            raise DecodeError(f"the session does not parse: {error}") from None
        reader.end()
        return session


def _milliseconds(seconds: float) -> bytes:
    return round(seconds * 1000).to_bytes(8, "big", signed=True)


def _seconds(reader: Reader) -> float:
    return int.from_bytes(reader.take(8), "big", signed=True) / 1000


def _parse_identity(reader: Reader) -> bytes | None:
    is_there, identity = reader.uint8(), reader.vector(2)
    return identity if is_there else None


def _parse_chain(data: bytes) -> tuple[bytes, ...]:
    entries = Reader(data)
    chain = []
    while entries.remaining:
        chain.append(entries.vector(3, minimum=1))
    return tuple(chain)
