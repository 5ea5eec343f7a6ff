"""The DTLS 1.2 handshake (RFC 5246 §7.3, RFC 6347 §4.2): what client and server have in common.

```
Client                                   Server
ClientHello              -------->                            flight 1
                         <--------   HelloVerifyRequest       flight 2, from a StatelessListener
ClientHello (cookie)     -------->                            flight 3
                                            ServerHello
                                            Certificate
                                      ServerKeyExchange       flight 4
                                     CertificateRequest*
                         <--------      ServerHelloDone
Certificate*
ClientKeyExchange
CertificateVerify*                                            flight 5
[ChangeCipherSpec]
Finished                 -------->
                                     [ChangeCipherSpec]       flight 6
                         <--------             Finished
```
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import (
    PublicKey,
    X509Credentials,
    public_key_of,
    schemes_for_key,
    sign,
    verify,
)
from mediapeer.dtls.errors import CertificateRejected, DtlsError, PeerMisbehaved
from mediapeer.dtls.flights import OutgoingChangeCipherSpec, OutgoingHandshakeMessage, OutgoingMessage
from mediapeer.dtls.key_schedule import CLIENT_FINISHED_LABEL, SERVER_FINISHED_LABEL, SessionSecrets
from mediapeer.dtls.messages import CertificateVerify, Finished, HandshakeMessage
from mediapeer.dtls.protection import RecordProtection, record_protection
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    CipherSuite,
    HandshakeType,
    NamedGroup,
    SignatureScheme,
    SrtpProtectionProfile,
)

HANDSHAKE_EPOCH = 0
APPLICATION_EPOCH = 1


class State(enum.Enum):
    """What the handshake waits for, in words that an error message can use."""

    SERVER_HELLO = "ServerHello"
    SERVER_CERTIFICATE = "the server's Certificate"
    SERVER_KEY_EXCHANGE = "ServerKeyExchange"
    CERTIFICATE_REQUEST = "CertificateRequest or ServerHelloDone"
    SERVER_HELLO_DONE = "ServerHelloDone"
    CLIENT_HELLO = "ClientHello"
    CLIENT_CERTIFICATE = "the client's Certificate"
    CLIENT_KEY_EXCHANGE = "ClientKeyExchange"
    CERTIFICATE_VERIFY = "CertificateVerify"
    FINISHED = "Finished"
    COMPLETE = "nothing more"


@dataclass(frozen=True, slots=True, repr=False)
class HandshakeResult:
    """What a completed handshake leaves behind."""

    cipher_suite: CipherSuite
    group: NamedGroup
    srtp_profile: SrtpProtectionProfile | None
    alpn_protocol: bytes | None
    server_name: str | None
    peer_chain: tuple[bytes, ...]
    secrets: SessionSecrets | None

    def without_secrets(self) -> "HandshakeResult":
        """What may be kept when the association is over."""
        return replace(self, secrets=None)


class HandshakeLayer(Protocol):
    """What a handshake needs of the connection that it belongs to."""

    def send_flight(self, messages: Sequence[OutgoingMessage], *, answered: bool) -> None:
        """Send a flight. It is sent again on a timer if it is to be ``answered``, on demand if it is the last."""

    def install_keys(self, read: RecordProtection, write: RecordProtection) -> None:
        """Make the application epoch's keys known; the peer's ChangeCipherSpec is needed for reading with them."""

    def forget_flight(self) -> None:
        """Stop sending the latest flight: the peer answered it."""

    def handshake_completed(self, result: HandshakeResult) -> None:
        """The peer is authenticated, and its Finished is verified."""


Handler = Callable[[ReassembledMessage], None]


class Handshake12:
    """One side of a handshake. Messages come in by :meth:`receive`, in order; what it does goes to the layer."""

    role: Role

    def __init__(
        self, configuration: DtlsConfiguration, layer: HandshakeLayer, next_message_seq: int
    ) -> None:
        self._configuration = configuration
        self._layer = layer
        self._next_message_seq = next_message_seq
        self._flight: list[OutgoingMessage] = []
        self._transcript = bytearray()
        self._client_random = b""
        self._server_random = b""
        self._cipher_suite: CipherSuite | None = None
        self._group: NamedGroup | None = None
        self._extended_master_secret = False
        self._srtp_profile: SrtpProtectionProfile | None = None
        self._alpn_protocol: bytes | None = None
        self._server_name = configuration.server_name
        self._peer_chain: tuple[bytes, ...] = ()
        self._peer_key: PublicKey | None = None
        self._secrets: SessionSecrets | None = None
        self._state = State.COMPLETE
        self._handlers: Mapping[State, Mapping[HandshakeType, Handler]] = {}

    @property
    def read_epoch(self) -> int:
        """The epoch in which the next message has to come."""
        return APPLICATION_EPOCH if self._state is State.FINISHED else HANDSHAKE_EPOCH

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

    # What both sides send

    def _send(self, message: HandshakeMessage, epoch: int = HANDSHAKE_EPOCH) -> None:
        outgoing = OutgoingHandshakeMessage(
            epoch, message.handshake_type, self._next_message_seq, message.serialize()
        )
        self._next_message_seq += 1
        self._transcript += outgoing.serialize()
        self._flight.append(outgoing)

    def _end_flight(self, *, answered: bool = True) -> None:
        self._layer.send_flight(self._flight, answered=answered)
        self._flight = []

    def _send_finished(self, label: bytes, secrets: SessionSecrets) -> None:
        self._flight.append(OutgoingChangeCipherSpec(HANDSHAKE_EPOCH))
        self._send(Finished(secrets.verify_data(label, bytes(self._transcript))), APPLICATION_EPOCH)

    def _note(self, message: ReassembledMessage) -> None:
        self._transcript += message.serialize()

    # The peer's identity

    def _verify_peer(self, chain: tuple[bytes, ...]) -> None:
        """Judge the peer's certificates. Runs before our Finished is made, in both roles."""
        try:
            self._configuration.verifier.verify_peer(chain)
        except DtlsError:
            raise
        except Exception as error:
            raise DtlsError(
                f"the verifier failed: {type(error).__name__}", AlertDescription.INTERNAL_ERROR
            ) from error
        if chain:
            # Not before the verifier has spoken: a certificate that nobody expects is not even parsed here.
            self._peer_key = public_key_of(
                chain[0], allow_secp224r1=self._configuration.allow_secp224r1_certificates
            )
        self._peer_chain = chain

    def _verify_signature(self, scheme: int, signature: bytes, data: bytes) -> None:
        """Check a signature of the peer by a scheme that we offered."""
        if self._peer_key is None:
            raise CertificateRejected("the peer signs without a certificate")
        for known in self._configuration.signature_schemes:
            if known == scheme:
                verify(self._peer_key, known, signature, data)
                return
        raise PeerMisbehaved(
            f"the peer signs by scheme 0x{scheme:04x}, which was not offered",
            AlertDescription.ILLEGAL_PARAMETER,
        )

    def _certificate_verify(
        self, credentials: X509Credentials, schemes: Sequence[SignatureScheme]
    ) -> CertificateVerify:
        scheme = schemes[0]
        return CertificateVerify(scheme, sign(credentials.private_key, scheme, bytes(self._transcript)))

    # Keys, and the end

    def _derive_keys(self, premaster_secret: bytes) -> SessionSecrets:
        """Make the secrets when ClientKeyExchange is in the transcript, and give the layer its keys."""
        parameters = CIPHER_SUITE_PARAMETERS[self._chosen_suite]
        secrets = SessionSecrets.from_premaster(
            parameters,
            premaster_secret,
            self._client_random,
            self._server_random,
            bytes(self._transcript) if self._extended_master_secret else None,
        )
        self._secrets = secrets
        if self._configuration.key_log is not None:
            self._configuration.key_log(secrets.key_log_line())
        block = secrets.key_block()
        client = record_protection(parameters, block.client_write_key, block.client_write_iv)
        server = record_protection(parameters, block.server_write_key, block.server_write_iv)
        if self.role is Role.CLIENT:
            self._layer.install_keys(server, client)
        else:
            self._layer.install_keys(client, server)
        return secrets

    def _check_finished(self, message: ReassembledMessage, secrets: SessionSecrets) -> None:
        """Compare the peer's Finished with what it has to be, in constant time."""
        label = SERVER_FINISHED_LABEL if self.role is Role.CLIENT else CLIENT_FINISHED_LABEL
        finished = Finished.parse(message.body)
        if not secrets.is_verify_data(finished.verify_data, label, bytes(self._transcript)):
            raise PeerMisbehaved("the peer's Finished is wrong", AlertDescription.DECRYPT_ERROR)
        self._note(message)

    def _complete(self, secrets: SessionSecrets) -> None:
        self._state = State.COMPLETE
        self._transcript.clear()
        self._layer.handshake_completed(
            HandshakeResult(
                cipher_suite=self._chosen_suite,
                group=self._chosen_group,
                srtp_profile=self._srtp_profile,
                alpn_protocol=self._alpn_protocol,
                server_name=self._server_name,
                peer_chain=self._peer_chain,
                secrets=secrets,
            )
        )

    @property
    def _chosen_suite(self) -> CipherSuite:
        if self._cipher_suite is None:
            raise DtlsError("no cipher suite is chosen yet", AlertDescription.INTERNAL_ERROR)
        return self._cipher_suite

    @property
    def _chosen_group(self) -> NamedGroup:
        if self._group is None:
            raise DtlsError("no group is chosen yet", AlertDescription.INTERNAL_ERROR)
        return self._group

    @property
    def _derived_secrets(self) -> SessionSecrets:
        if self._secrets is None:
            raise DtlsError("no secret is derived yet", AlertDescription.INTERNAL_ERROR)
        return self._secrets


_SCHEME_FOR_CURVE = {
    "secp256r1": SignatureScheme.ECDSA_SECP256R1_SHA256,
    "secp384r1": SignatureScheme.ECDSA_SECP384R1_SHA384,
    "secp521r1": SignatureScheme.ECDSA_SECP521R1_SHA512,
}


def signature_schemes_for(
    credentials: X509Credentials, ours: Sequence[SignatureScheme], theirs: Sequence[int]
) -> list[SignatureScheme]:
    """The schemes by which ``credentials`` can sign for this peer, the best first.

    That is our order, but an ECDSA key takes the hash of its own size first: a peer that thinks in terms of
    DTLS 1.3 then finds what it expects.
    """
    usable = schemes_for_key(credentials.private_key).intersection(theirs)
    schemes = [scheme for scheme in ours if scheme in usable]
    natural = _SCHEME_FOR_CURVE.get(getattr(getattr(credentials.private_key, "curve", None), "name", ""))
    if natural in schemes:
        schemes.remove(natural)
        schemes.insert(0, natural)
    return schemes
