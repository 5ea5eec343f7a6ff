"""The DTLS 1.3 handshake (RFC 9147 §5, RFC 8446 §4): what client and server have in common.

```
Client                                     Server
ClientHello (key_share)    -------->                            epoch 0
                           <--------   HelloRetryRequest        epoch 0, if no share fits
ClientHello (key_share)    -------->                            epoch 0
                                             ServerHello        epoch 0
                                     EncryptedExtensions
                                     CertificateRequest*
                                             Certificate        epoch 2
                                       CertificateVerify
                           <--------            Finished
Certificate*
CertificateVerify*                                              epoch 2
Finished                   -------->
                           <--------                 ACK        epoch 3
Application Data           <------->    Application Data        epoch 3
```
"""

import hmac
from collections.abc import Container
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mediapeer.dtls import extensions
from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import PrivateKey, PublicKey, SigningCredentials, sign, verify
from mediapeer.dtls.epochs import ReadEpoch13, WriteEpoch13
from mediapeer.dtls.errors import CertificateRejected, DtlsError, PeerMisbehaved
from mediapeer.dtls.flights import OutgoingHandshakeMessage
from mediapeer.dtls.handshake import Handshake, HandshakeLayer, HandshakeResult, State
from mediapeer.dtls.key_schedule13 import Exporter13, KeySchedule, finished_verify_data
from mediapeer.dtls.key_update import ApplicationTraffic
from mediapeer.dtls.messages import CertificateVerify
from mediapeer.dtls.messages13 import Certificate13, CertificateEntry, Finished13
from mediapeer.dtls.psk import OfferedPsk
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.record import MAXIMUM_PLAINTEXT_LENGTH
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    CipherSuite,
    CipherSuiteParameters,
    ExtensionType,
    ProtocolVersion,
    SignatureScheme,
)
from mediapeer.dtls.transcript13 import Transcript

HELLO_EPOCH = 0
HANDSHAKE_EPOCH = 2
APPLICATION_EPOCH = 3

_SIGNATURE_PADDING = b" " * 64
_SIGNATURE_CONTEXTS = {
    Role.CLIENT: b"TLS 1.3, client CertificateVerify\0",
    Role.SERVER: b"TLS 1.3, server CertificateVerify\0",
}
_RSA_SCHEMES = frozenset(
    {
        SignatureScheme.RSA_PSS_RSAE_SHA256,
        SignatureScheme.RSA_PSS_RSAE_SHA384,
        SignatureScheme.RSA_PSS_RSAE_SHA512,
    }
)
_CURVE_SCHEMES = {
    "secp256r1": SignatureScheme.ECDSA_SECP256R1_SHA256,
    "secp384r1": SignatureScheme.ECDSA_SECP384R1_SHA384,
    "secp521r1": SignatureScheme.ECDSA_SECP521R1_SHA512,
}


def schemes_for_key13(key: PrivateKey | PublicKey) -> frozenset[SignatureScheme]:
    """The schemes of DTLS 1.3 that go with a key: it ties the hash to the curve, and RSA to PSS (RFC 8446 §4.2.3)."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return _RSA_SCHEMES
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        scheme = _CURVE_SCHEMES.get(key.curve.name)
        return frozenset() if scheme is None else frozenset({scheme})
    return frozenset({SignatureScheme.ED25519})


class Handshake13(Handshake):
    """One side of a DTLS 1.3 handshake."""

    version = ProtocolVersion.DTLS_1_3

    def __init__(
        self,
        configuration: DtlsConfiguration,
        layer: HandshakeLayer,
        next_message_seq: int,
        transcript: Transcript,
    ) -> None:
        super().__init__(configuration, layer, next_message_seq)
        self._transcript = transcript
        self._client_random = b""
        self._hello_retry_requested = False
        self._psk: OfferedPsk | None = None
        self._resumption_secret = b""
        self._schedule: KeySchedule | None = None
        self._client_handshake_secret = b""
        self._server_handshake_secret = b""
        self._exporter_secret = b""

    @property
    def read_epoch(self) -> int:
        """The epoch in which the next message has to come."""
        return HELLO_EPOCH if self._state in (State.CLIENT_HELLO, State.SERVER_HELLO) else HANDSHAKE_EPOCH

    def _note_sent(self, message: OutgoingHandshakeMessage) -> None:
        self._transcript.add(message.handshake_type, message.body)

    def _note(self, message: ReassembledMessage) -> None:
        self._transcript.add(message.handshake_type, message.body)

    # Keys

    @property
    def _parameters(self) -> CipherSuiteParameters:
        return CIPHER_SUITE_PARAMETERS[self._chosen_suite]

    def _choose(self, suite: CipherSuite) -> None:
        """Settle on a cipher suite, and with it on the hash of everything."""
        self._cipher_suite = suite
        if not self._transcript.hash_name:
            self._transcript.choose_hash(self._parameters.hash_name)

    def _enter_handshake(self, shared_secret: bytes) -> None:
        """Make the keys of epoch 2, when the ServerHello is in the transcript."""
        psk = self._psk.secret if self._psk is not None else b""
        schedule = self._schedule = KeySchedule(self._parameters.hash_name, psk)
        schedule.enter_handshake(shared_secret)
        digest = self._transcript.digest()
        self._client_handshake_secret = schedule.derive_secret(b"c hs traffic", digest)
        self._server_handshake_secret = schedule.derive_secret(b"s hs traffic", digest)
        self._log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", self._client_handshake_secret)
        self._log("SERVER_HANDSHAKE_TRAFFIC_SECRET", self._server_handshake_secret)
        read, write = self._client_handshake_secret, self._server_handshake_secret
        if self.role is Role.CLIENT:
            read, write = write, read
        self._layer.install_writer(WriteEpoch13(HANDSHAKE_EPOCH, self._parameters, write))
        self._layer.install_reader(ReadEpoch13(HANDSHAKE_EPOCH, self._parameters, read, self._layer.counters))

    def _enter_application(self) -> ApplicationTraffic:
        """Make the secrets of epoch 3 and on, when the server's Finished is in the transcript."""
        schedule = self._schedule
        if schedule is None:
            raise DtlsError("there is no handshake secret yet", AlertDescription.INTERNAL_ERROR)
        schedule.enter_application()
        digest = self._transcript.digest()
        client = schedule.derive_secret(b"c ap traffic", digest)
        server = schedule.derive_secret(b"s ap traffic", digest)
        self._exporter_secret = schedule.derive_secret(b"exp master", digest)
        self._log("CLIENT_TRAFFIC_SECRET_0", client)
        self._log("SERVER_TRAFFIC_SECRET_0", server)
        self._log("EXPORTER_SECRET", self._exporter_secret)
        read, write = (server, client) if self.role is Role.CLIENT else (client, server)
        return ApplicationTraffic(self._parameters, read, write)

    def _derive_resumption_secret(self) -> None:
        """Make what the PSKs of tickets come from, when the client's Finished is in the transcript."""
        if self._schedule is not None:
            self._resumption_secret = self._schedule.derive_secret(b"res master", self._transcript.digest())

    def _log(self, label: str, secret: bytes) -> None:
        if self._configuration.key_log is not None:
            self._configuration.key_log(f"{label} {self._client_random.hex()} {secret.hex()}")

    # Authentication

    def _signed_content(self, signer: Role) -> bytes:
        """What a CertificateVerify signs (RFC 8446 §4.4.3)."""
        return _SIGNATURE_PADDING + _SIGNATURE_CONTEXTS[signer] + self._transcript.digest()

    def _send_certificate(
        self,
        credentials: SigningCredentials | None,
        scheme: SignatureScheme | None,
        leaf_extensions: extensions.ExtensionBlock | None = None,
    ) -> None:
        """Send Certificate, and CertificateVerify if there is something to verify.

        :param leaf_extensions: what goes with the first certificate (RFC 8446 §4.4.2).
        """
        chain = credentials.chain if credentials else ()
        entries = [CertificateEntry(certificate) for certificate in chain]
        if entries and leaf_extensions:
            entries[0] = CertificateEntry(chain[0], leaf_extensions)
        self._send(Certificate13(tuple(entries)), HANDSHAKE_EPOCH)
        if credentials is not None and scheme is not None:
            signature = sign(credentials.private_key, scheme, self._signed_content(self.role))
            self._send(CertificateVerify(scheme, signature), HANDSHAKE_EPOCH)

    def _receive_certificate(
        self, message: ReassembledMessage, solicited: Container[int]
    ) -> tuple[bytes, ...]:
        """Read the peer's certificates.

        :param solicited: which extensions it may put to them: those that we asked for (RFC 8446 §4.4.2).
        """
        certificate = Certificate13.parse(message.body)
        if certificate.request_context:
            raise PeerMisbehaved(
                "Certificate answers a request that was not made", AlertDescription.ILLEGAL_PARAMETER
            )
        for index, entry in enumerate(certificate.entries):
            for kind, body in entry.extensions.items():
                if kind not in solicited:
                    raise PeerMisbehaved(
                        f"Certificate has extension {kind}, which was not offered",
                        AlertDescription.UNSUPPORTED_EXTENSION,
                    )
                self._read_certificate_extension(kind, body, is_leaf=index == 0)
        return certificate.chain

    def _read_certificate_extension(self, kind: int, body: bytes, *, is_leaf: bool) -> None:
        """Carry through what comes with the end entity's certificate; of the others it only has to parse."""
        if kind == ExtensionType.STATUS_REQUEST:
            response = extensions.parse_certificate_status(body)
            if is_leaf:
                self._peer = replace(self._peer, ocsp_response=response)
        elif kind == ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP:
            timestamps = extensions.check_signed_certificate_timestamps(body)
            if is_leaf:
                self._peer = replace(self._peer, signed_certificate_timestamps=timestamps)

    def _limit_records(self, limit: int) -> None:
        """Heed the peer's record_size_limit, which counts the content type too (RFC 8449 §4)."""
        self._layer.limit_records(min(limit - 1, MAXIMUM_PLAINTEXT_LENGTH))

    def _receive_certificate_verify(self, message: ReassembledMessage) -> None:
        proof = CertificateVerify.parse(message.body)
        if self._peer_key is None:
            raise CertificateRejected("the peer signs without a certificate")
        peer = Role.SERVER if self.role is Role.CLIENT else Role.CLIENT
        usable = schemes_for_key13(self._peer_key)
        for scheme in self._configuration.signature_schemes:
            if scheme == proof.signature_scheme and scheme in usable:
                verify(self._peer_key, scheme, proof.signature, self._signed_content(peer))
                self._note(message)
                return
        raise PeerMisbehaved(
            f"the peer signs by scheme 0x{proof.signature_scheme:04x}, which was not offered or not its key's",
            AlertDescription.ILLEGAL_PARAMETER,
        )

    def _send_finished(self, secret: bytes) -> None:
        digest = self._transcript.digest()
        self._send(
            Finished13(finished_verify_data(self._parameters.hash_name, secret, digest)), HANDSHAKE_EPOCH
        )

    def _receive_finished(self, message: ReassembledMessage, secret: bytes) -> None:
        """Compare the peer's Finished with what it has to be, in constant time."""
        expected = finished_verify_data(self._parameters.hash_name, secret, self._transcript.digest())
        finished = Finished13.parse(message.body)
        if not hmac.compare_digest(finished.verify_data, expected):
            raise PeerMisbehaved("the peer's Finished is wrong", AlertDescription.DECRYPT_ERROR)
        self._note(message)

    def _result(self, traffic: ApplicationTraffic, *, is_resumable: bool) -> HandshakeResult:
        return HandshakeResult(
            version=ProtocolVersion.DTLS_1_3,
            cipher_suite=self._chosen_suite,
            group=self._chosen_group,
            srtp_profile=self._srtp_profile,
            alpn_protocol=self._alpn_protocol,
            peer=self._peer,
            exporter=Exporter13(self._parameters.hash_name, self._exporter_secret),
            next_message_seq=self._next_message_seq,
            traffic=traffic,
            is_resumed=self._resumed is not None,
            hello_retry_requested=self._hello_retry_requested,
            credentials=self._credentials,
            session=self._session(b"", self._layer.now) if is_resumable else None,
            resumption_secret=self._resumption_secret if is_resumable else b"",
        )
