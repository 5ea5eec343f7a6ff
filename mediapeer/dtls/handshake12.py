"""The DTLS 1.2 handshake (RFC 5246 §7.3, RFC 6347 §4.2): what client and server have in common.

```
Client                                   Server
ClientHello              -------->                            flight 1
                         <--------   HelloVerifyRequest       flight 2, from a StatelessListener
ClientHello (cookie)     -------->                            flight 3
                                            ServerHello
                                           Certificate*
                                     CertificateStatus*
                                     ServerKeyExchange*       flight 4
                                    CertificateRequest*
                         <--------      ServerHelloDone
Certificate*
ClientKeyExchange
CertificateVerify*                                            flight 5
[ChangeCipherSpec]
Finished                 -------->
                                      NewSessionTicket*
                                     [ChangeCipherSpec]       flight 6
                         <--------             Finished
```

A handshake that resumes a session has no keys to exchange, and the client speaks last:

```
ClientHello              -------->                            flight 1, or 3
                                            ServerHello
                                      NewSessionTicket*       flight 4
                                     [ChangeCipherSpec]
                         <--------             Finished
[ChangeCipherSpec]
Finished                 -------->                            flight 5
```
"""

from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import SigningCredentials, sign, verify
from mediapeer.dtls.epochs import ReadEpoch12, WriteEpoch12
from mediapeer.dtls.errors import CertificateRejected, DtlsError, PeerMisbehaved
from mediapeer.dtls.extensions import ExtensionBlock, parse_record_size_limit
from mediapeer.dtls.flights import OutgoingChangeCipherSpec, OutgoingHandshakeMessage
from mediapeer.dtls.handshake import Handshake, HandshakeLayer, HandshakeResult, State
from mediapeer.dtls.key_schedule import CLIENT_FINISHED_LABEL, SERVER_FINISHED_LABEL, SessionSecrets
from mediapeer.dtls.messages import (
    Certificate,
    CertificateVerify,
    Finished,
    HandshakeMessage,
    RawPublicKeyCertificate,
)
from mediapeer.dtls.protection import record_protection
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.record import MAXIMUM_PLAINTEXT_LENGTH
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    AuthenticationMethod,
    CertificateType,
    CipherSuiteParameters,
    ExtensionType,
    ProtocolVersion,
    SignatureScheme,
)
from mediapeer.dtls.session import Session

HANDSHAKE_EPOCH = 0
APPLICATION_EPOCH = 1


class Handshake12(Handshake):
    """One side of a DTLS 1.2 handshake."""

    version = ProtocolVersion.DTLS_1_2

    def __init__(
        self, configuration: DtlsConfiguration, layer: HandshakeLayer, next_message_seq: int
    ) -> None:
        super().__init__(configuration, layer, next_message_seq)
        self._transcript = bytearray()
        self._client_random = b""
        self._server_random = b""
        self._extended_master_secret = False
        self._secrets: SessionSecrets | None = None

    @property
    def read_epoch(self) -> int:
        """The epoch in which the next message has to come."""
        return APPLICATION_EPOCH if self._state is State.FINISHED else HANDSHAKE_EPOCH

    @property
    def _parameters(self) -> CipherSuiteParameters:
        return CIPHER_SUITE_PARAMETERS[self._chosen_suite]

    @property
    def _uses_certificates(self) -> bool:
        """Whether the server authenticates by a certificate; a pre-shared key vouches for both sides."""
        return self._parameters.authentication is not AuthenticationMethod.PSK

    def _take_over(self, session: Session) -> None:
        super()._take_over(session)
        self._group = session.group  # there is no key exchange

    def _note_sent(self, message: OutgoingHandshakeMessage) -> None:
        self._transcript += message.serialize()

    def _send_finished(self, label: bytes, secrets: SessionSecrets) -> None:
        self._flight.append(OutgoingChangeCipherSpec(HANDSHAKE_EPOCH))
        self._layer.switch_writer(APPLICATION_EPOCH)
        self._send(Finished(secrets.verify_data(label, bytes(self._transcript))), APPLICATION_EPOCH)

    def _note(self, message: ReassembledMessage) -> None:
        self._transcript += message.serialize()

    def _read_record_size_limit(self, block: ExtensionBlock) -> bool:
        """Heed the peer's record_size_limit, if it has sent one (RFC 8449 §4); returns whether it has."""
        body = block.get(ExtensionType.RECORD_SIZE_LIMIT)
        if body is None:
            return False
        self._layer.limit_records(min(parse_record_size_limit(body), MAXIMUM_PLAINTEXT_LENGTH))
        return True

    # Certificates and signatures

    def _parse_certificate(self, message: ReassembledMessage) -> tuple[bytes, ...]:
        """The peer's certificates or its one raw public key, whatever was agreed on; empty when it has none."""
        if self._peer.certificate_type is CertificateType.RAW_PUBLIC_KEY:
            public_key_info = RawPublicKeyCertificate.parse(message.body).public_key_info
            return (public_key_info,) if public_key_info else ()
        return Certificate.parse(message.body).chain

    def _certificate(
        self, certificate_type: CertificateType, credentials: SigningCredentials | None
    ) -> HandshakeMessage:
        """Our Certificate, which is empty where we have none to show."""
        chain = credentials.chain if credentials is not None else ()
        if certificate_type is CertificateType.RAW_PUBLIC_KEY:
            return RawPublicKeyCertificate(b"".join(chain))
        return Certificate(chain)

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
        self, credentials: SigningCredentials, scheme: SignatureScheme
    ) -> CertificateVerify:
        return CertificateVerify(scheme, sign(credentials.private_key, scheme, bytes(self._transcript)))

    # Keys, and the end

    def _derive_keys(self, premaster_secret: bytes) -> SessionSecrets:
        """Make the secrets when ClientKeyExchange is in the transcript, and give the layer its keys."""
        secrets = SessionSecrets.from_premaster(
            self._parameters,
            premaster_secret,
            self._client_random,
            self._server_random,
            bytes(self._transcript) if self._extended_master_secret else None,
        )
        return self._use_secrets(secrets)

    def _derive_keys_from(self, session: Session) -> SessionSecrets:
        """Make fresh keys from the master secret of an earlier handshake, when both hellos have been said."""
        secrets = SessionSecrets(self._parameters, session.secret, self._client_random, self._server_random)
        return self._use_secrets(secrets)

    def _use_secrets(self, secrets: SessionSecrets) -> SessionSecrets:
        self._secrets = secrets
        if self._configuration.key_log is not None:
            self._configuration.key_log(secrets.key_log_line())
        block, parameters = secrets.key_block(), self._parameters
        client = record_protection(parameters, block.client_write_key, block.client_write_iv)
        server = record_protection(parameters, block.server_write_key, block.server_write_iv)
        read, write = (server, client) if self.role is Role.CLIENT else (client, server)
        self._layer.install_writer(WriteEpoch12(APPLICATION_EPOCH, write))
        self._layer.install_reader(ReadEpoch12(APPLICATION_EPOCH, read, self._layer.counters))
        return secrets

    def _check_finished(self, message: ReassembledMessage, secrets: SessionSecrets) -> None:
        """Compare the peer's Finished with what it has to be, in constant time."""
        label = SERVER_FINISHED_LABEL if self.role is Role.CLIENT else CLIENT_FINISHED_LABEL
        finished = Finished.parse(message.body)
        if not secrets.is_verify_data(finished.verify_data, label, bytes(self._transcript)):
            raise PeerMisbehaved("the peer's Finished is wrong", AlertDescription.DECRYPT_ERROR)
        self._note(message)

    def _new_session(self, secrets: SessionSecrets) -> Session:
        """What may be resumed of this handshake; it has neither a name nor a ticket yet."""
        return self._session(
            secrets.master_secret, self._layer.now, extended_master_secret=self._extended_master_secret
        )

    def _complete(self, secrets: SessionSecrets, session: Session | None) -> None:
        """Tell that it is done, and what can be resumed of it."""
        self._state = State.COMPLETE
        self._transcript.clear()
        self._layer.handshake_completed(
            HandshakeResult(
                version=ProtocolVersion.DTLS_1_2,
                cipher_suite=self._chosen_suite,
                group=self._group,
                srtp_profile=self._srtp_profile,
                alpn_protocol=self._alpn_protocol,
                peer=self._peer,
                exporter=secrets,
                next_message_seq=self._next_message_seq,
                traffic=None,
                is_resumed=self._resumed is not None,
                credentials=self._credentials,
                session=session,
            )
        )

    @property
    def _derived_secrets(self) -> SessionSecrets:
        if self._secrets is None:
            raise DtlsError("no secret is derived yet", AlertDescription.INTERNAL_ERROR)
        return self._secrets
