"""What all handshakes have in common: client and server, DTLS 1.2 and 1.3, and the hellos before that is settled."""

import enum
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import (
    Credentials,
    PublicKey,
    RawPublicKeyPolicy,
    load_raw_public_key,
    public_key_of,
)
from mediapeer.dtls.epochs import ReadEpoch12, ReadEpoch13, WriteEpoch
from mediapeer.dtls.errors import (
    CertificateRejected,
    DecodeError,
    DtlsError,
    NegotiationFailed,
    PeerMisbehaved,
)
from mediapeer.dtls.flights import OutgoingHandshakeMessage, OutgoingMessage
from mediapeer.dtls.key_update import ApplicationTraffic
from mediapeer.dtls.messages import HandshakeMessage
from mediapeer.dtls.psk import ImportedPreSharedKey, PreSharedKey
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    CertificateType,
    CipherSuite,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
    SrtpProtectionProfile,
)
from mediapeer.dtls.session import Session


class State(enum.Enum):
    """What the handshake waits for, in words that an error message can use."""

    SERVER_HELLO = "ServerHello"
    ENCRYPTED_EXTENSIONS = "EncryptedExtensions"
    CERTIFICATE_OR_REQUEST = "CertificateRequest or Certificate"
    SERVER_CERTIFICATE = "the server's Certificate"
    CERTIFICATE_STATUS = "CertificateStatus or ServerKeyExchange"
    NEW_SESSION_TICKET = "NewSessionTicket"
    SERVER_KEY_EXCHANGE = "ServerKeyExchange"
    CERTIFICATE_REQUEST = "CertificateRequest or ServerHelloDone"
    SERVER_HELLO_DONE = "ServerHelloDone"
    CLIENT_HELLO = "ClientHello"
    CLIENT_CERTIFICATE = "the client's Certificate"
    CLIENT_KEY_EXCHANGE = "ClientKeyExchange"
    CERTIFICATE_VERIFY = "CertificateVerify"
    FINISHED = "Finished"
    COMPLETE = "nothing more"


class Exporter(Protocol):
    """Derives secrets for other protocols; each version has its own."""

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Keying material of ``length`` bytes."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What the peer has shown of itself."""

    server_name: str | None = None
    "The host name that the client asked for."
    certificate_type: CertificateType = CertificateType.X509
    chain: tuple[bytes, ...] = ()
    "Its certificates, or its one raw public key; empty when it sent none."
    ocsp_response: bytes = b""
    signed_certificate_timestamps: bytes = b""
    pre_shared_key_identity: bytes | None = None
    "The identity of the external PSK that both know; ``None`` when certificates were used."


@dataclass(frozen=True, slots=True, repr=False)
class HandshakeResult:
    """What a completed handshake leaves behind."""

    version: ProtocolVersion
    cipher_suite: CipherSuite
    group: NamedGroup | None
    "``None`` when a bare PSK of DTLS 1.2 made the keys."
    srtp_profile: SrtpProtectionProfile | None
    alpn_protocol: bytes | None
    peer: PeerIdentity
    exporter: Exporter | None
    next_message_seq: int
    "The number of our next handshake message, if there is one after the handshake."
    traffic: ApplicationTraffic | None
    "What KeyUpdate needs; only DTLS 1.3 has it."
    is_resumed: bool = False
    hello_retry_requested: bool = False
    credentials: Credentials | None = None
    "What we have shown of ourselves, or both know."
    session: Session | None = None
    "What can be resumed later: at once in DTLS 1.2, in 1.3 with the tickets that are made from it."
    resumption_secret: bytes = b""
    "What the PSKs of tickets are derived from; only DTLS 1.3 has it."

    def without_secrets(self) -> "HandshakeResult":
        """What may be kept when the association is over."""
        return replace(self, exporter=None, traffic=None, session=None, resumption_secret=b"")


class HandshakeLayer(Protocol):
    """What a handshake needs of the connection that it belongs to."""

    counters: Counter[str]
    now: float
    "The time of what is being dealt with, in seconds."

    def send_flight(self, messages: Sequence[OutgoingMessage], *, answered: bool) -> None:
        """Send a flight. It is sent again on a timer if it is to be ``answered``, on demand if it is the last."""

    def forget_flight(self) -> None:
        """Stop sending the latest flight: the peer answered it."""

    def install_reader(self, epoch: ReadEpoch12 | ReadEpoch13) -> None:
        """Open the peer's records of this epoch from now on."""

    def install_writer(self, epoch: WriteEpoch) -> None:
        """Make an epoch of ours known, for flights to be sent in."""

    def switch_writer(self, number: int) -> None:
        """Write alerts and data in this epoch from now on."""

    def limit_records(self, size: int) -> None:
        """Put at most ``size`` bytes into a protected record from now on (RFC 8449 §4)."""

    def continue_with(self, handshake: "Handshake") -> None:
        """The version is chosen: hand further messages to ``handshake``."""

    def handshake_completed(self, result: HandshakeResult) -> None:
        """The peer is authenticated, and its Finished is verified."""


Handler = Callable[[ReassembledMessage], None]


class Handshake(ABC):
    """One side of a handshake, or of its beginning. Messages come in by :meth:`receive`, in order.

    :param next_message_seq: the number of the first message that it sends.
    """

    role: Role
    version: ProtocolVersion | None = None
    "The version that this handshake is of; ``None`` before one is chosen."

    def __init__(
        self, configuration: DtlsConfiguration, layer: HandshakeLayer, next_message_seq: int
    ) -> None:
        self._configuration = configuration
        self._layer = layer
        self._next_message_seq = next_message_seq
        self._flight: list[OutgoingMessage] = []
        self._cipher_suite: CipherSuite | None = None
        self._group: NamedGroup | None = None
        self._srtp_profile: SrtpProtectionProfile | None = None
        self._alpn_protocol: bytes | None = None
        self._peer = PeerIdentity(server_name=configuration.server_name)
        self._peer_key: PublicKey | None = None
        self._credentials: Credentials | None = None
        self._resumed: Session | None = None
        self._state = State.COMPLETE
        self._handlers: Mapping[State, Mapping[HandshakeType, Handler]] = {}

    @property
    @abstractmethod
    def read_epoch(self) -> int:
        """The epoch in which the next message has to come."""

    def receive(self, message: ReassembledMessage) -> None:
        """Take the peer's next message.

        :raises DtlsError: when the handshake cannot go on; the error names the alert.
        """
        for handshake_type, handler in self._handlers[self._state].items():
            if message.handshake_type == handshake_type:
                handler(message)
                return
        raise PeerMisbehaved(
            f"the peer sent handshake message {message.handshake_type} where {self._state.value} is due",
            AlertDescription.UNEXPECTED_MESSAGE,
        )

    def peer_goes_on(self) -> None:  # noqa: B027 - most have nothing to do then
        """A piece of a handshake message has come that only the peer can have made: it has what we sent before."""

    def _send(
        self, message: HandshakeMessage, epoch: int = 0, record_version: int = ProtocolVersion.DTLS_1_2
    ) -> None:
        outgoing = OutgoingHandshakeMessage(
            epoch, message.handshake_type, self._next_message_seq, message.serialize(), record_version
        )
        self._next_message_seq += 1
        self._note_sent(outgoing)
        self._flight.append(outgoing)

    @abstractmethod
    def _note_sent(self, message: OutgoingHandshakeMessage) -> None:
        """Add a message of ours to the transcript."""

    def _end_flight(self, *, answered: bool = True) -> None:
        self._layer.send_flight(self._flight, answered=answered)
        self._flight = []

    def _verify_peer(self, chain: tuple[bytes, ...]) -> None:
        """Judge the peer's certificates. Runs before our Finished is made, in both roles and versions."""
        self._peer = replace(self._peer, chain=chain)
        self._ask_verifier()
        if not chain:
            return
        # Not before the verifier has spoken: a certificate that nobody expects is not even parsed here.
        allow = self._configuration.allow_secp224r1_certificates
        if self._peer.certificate_type is CertificateType.RAW_PUBLIC_KEY:
            self._peer_key = load_raw_public_key(chain[0], allow_secp224r1=allow)
        else:
            self._peer_key = public_key_of(chain[0], allow_secp224r1=allow)

    def _ask_verifier(self) -> None:
        verifier, peer = self._configuration.verifier, self._peer
        if verifier is None:
            if not peer.chain:
                return
            raise CertificateRejected(
                "the peer uses a certificate where a pre-shared key is expected",
                AlertDescription.UNSUPPORTED_CERTIFICATE,
            )
        try:
            if peer.certificate_type is not CertificateType.RAW_PUBLIC_KEY:
                verifier.verify_peer(peer.chain)
            elif isinstance(verifier, RawPublicKeyPolicy) and len(peer.chain) == 1:
                verifier.verify_raw_public_key(peer.chain[0])
            elif peer.chain:
                raise DecodeError("the peer has sent more than one raw public key")
            else:
                verifier.verify_peer(())
        except DtlsError:
            raise
        except Exception as error:
            raise DtlsError(
                f"the verifier failed: {type(error).__name__}", AlertDescription.INTERNAL_ERROR
            ) from error

    def _take_over(self, session: Session) -> None:
        """Go on with the peer of an earlier handshake, if it would still be let in."""
        self._resumed = session
        self._peer = PeerIdentity(
            session.server_name,
            session.peer_certificate_type,
            session.peer_chain,
            session.ocsp_response,
            session.signed_certificate_timestamps,
            session.pre_shared_key_identity,
        )
        if self._configuration.verify_on_resumption and session.pre_shared_key_identity is None:
            self._ask_verifier()

    def _may_take_over(self, session: Session) -> bool:
        """For servers: take over the peer of a session, or forget it again if the verifier refuses it.

        Such a client may prove itself anew; if it is refused then, it is told why.
        """
        peer, group = self._peer, self._group
        try:
            self._take_over(session)
        except CertificateRejected:
            self._resumed, self._group, self._peer = None, group, peer
            return False
        return True

    def _session(self, secret: bytes, now: float, *, extended_master_secret: bool = True) -> Session:
        """What may be resumed of this handshake; it has neither a name nor a ticket yet."""
        earlier, peer = self._resumed, self._peer
        created_at = earlier.created_at if earlier is not None else now
        return Session(
            version=self._chosen_suite_version,
            cipher_suite=self._chosen_suite,
            secret=secret,
            created_at=created_at,
            lifetime=max(0.0, created_at + self._configuration.session_lifetime - now),
            received_at=now,
            extended_master_secret=extended_master_secret,
            group=self._group,
            server_name=peer.server_name,
            peer_certificate_type=peer.certificate_type,
            peer_chain=peer.chain,
            ocsp_response=peer.ocsp_response,
            signed_certificate_timestamps=peer.signed_certificate_timestamps,
            pre_shared_key_identity=peer.pre_shared_key_identity,
            pre_shared_key_binding=self._pre_shared_key_binding,
        )

    @property
    def _pre_shared_key_binding(self) -> bytes:
        if self._resumed is not None:
            return self._resumed.pre_shared_key_binding
        key = self._credentials
        return key.binding() if isinstance(key, PreSharedKey | ImportedPreSharedKey) else b""

    # What a server chooses in both versions

    def _answer_offer(self, offer: extensions.ExtensionBlock) -> dict[int, bytes]:
        """Take what a client offers in either version, and make what answers it.

        In DTLS 1.2 that stands in the ServerHello, in 1.3 in EncryptedExtensions.
        """
        answer: dict[int, bytes] = {}
        if (body := offer.get(ExtensionType.SERVER_NAME)) is not None:
            name = extensions.parse_server_name(body)
            self._peer = replace(self._peer, server_name=name)
            if name is not None and self._configuration.acknowledge_server_name and self._resumed is None:
                answer[ExtensionType.SERVER_NAME] = b""
        if (body := offer.get(ExtensionType.USE_SRTP)) is not None:
            self._srtp_profile = self._choose_srtp_profile(extensions.UseSrtp.parse(body).profiles)
            if self._srtp_profile is not None:
                # No MKI of ours: an offered one is declined by leaving it out (RFC 5764 §4.1.3).
                answer[ExtensionType.USE_SRTP] = extensions.UseSrtp((self._srtp_profile,)).serialize()
        if (body := offer.get(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)) is not None:
            self._alpn_protocol = self._choose_alpn_protocol(extensions.parse_alpn(body))
            if self._alpn_protocol is not None:
                answer[ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = extensions.serialize_alpn(
                    (self._alpn_protocol,)
                )
        return answer

    def _settle_client_certificate_type(
        self, offer: extensions.ExtensionBlock, answer: dict[int, bytes]
    ) -> None:
        """Settle what the client shows when it is asked (RFC 7250 §4.2); what it did not offer is not answered."""
        body = offer.get(ExtensionType.CLIENT_CERTIFICATE_TYPE)
        offered = (CertificateType.X509,) if body is None else extensions.parse_certificate_types(body)
        chosen = next((t for t in self._configuration.peer_certificate_types if t in offered), None)
        if chosen is None:
            raise NegotiationFailed(
                "the client has no certificate of a type that is taken",
                AlertDescription.UNSUPPORTED_CERTIFICATE,
            )
        self._peer = replace(self._peer, certificate_type=chosen)
        if body is not None:
            answer[ExtensionType.CLIENT_CERTIFICATE_TYPE] = bytes([chosen])

    def _choose_srtp_profile(self, offered: Sequence[int]) -> SrtpProtectionProfile | None:
        for profile in self._configuration.srtp_profiles:
            if profile in offered:
                return profile
        return None

    def _choose_alpn_protocol(self, offered: tuple[bytes, ...]) -> bytes | None:
        if self._configuration.alpn_selector is not None:
            return self._ask_alpn_selector(self._configuration.alpn_selector, offered)
        if not self._configuration.alpn_protocols:
            return None
        for protocol in self._configuration.alpn_protocols:
            if protocol in offered:
                return protocol
        raise NegotiationFailed(
            "the client offers none of our application protocols", AlertDescription.NO_APPLICATION_PROTOCOL
        )

    @property
    def _taken_alpn_protocols(self) -> tuple[bytes, ...] | None:
        """What a server may choose; ``None`` for anything."""
        configuration = self._configuration
        return None if configuration.accept_unoffered_alpn else configuration.alpn_protocols

    @staticmethod
    def _ask_alpn_selector(
        select: Callable[[tuple[bytes, ...]], bytes | None], offered: tuple[bytes, ...]
    ) -> bytes | None:
        """What the program chooses. Nothing that it raises gets out otherwise than as our error."""
        try:
            chosen = select(offered)
        except DtlsError:
            raise
        except Exception as error:
            raise DtlsError(
                f"the ALPN selector failed: {type(error).__name__}", AlertDescription.INTERNAL_ERROR
            ) from error
        if chosen is not None and chosen not in offered:
            raise DtlsError(
                "the program chose an application protocol that was not offered",
                AlertDescription.INTERNAL_ERROR,
            )
        return chosen

    # What was chosen; asking too early is our own mistake

    @property
    def _chosen_suite(self) -> CipherSuite:
        if self._cipher_suite is None:
            raise DtlsError("no cipher suite is chosen yet", AlertDescription.INTERNAL_ERROR)
        return self._cipher_suite

    @property
    def _chosen_suite_version(self) -> ProtocolVersion:
        return CIPHER_SUITE_PARAMETERS[self._chosen_suite].version

    @property
    def _chosen_group(self) -> NamedGroup:
        if self._group is None:
            raise DtlsError("no group is chosen yet", AlertDescription.INTERNAL_ERROR)
        return self._group
