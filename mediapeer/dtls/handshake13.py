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
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import PrivateKey, PublicKey, X509Credentials, sign, verify
from mediapeer.dtls.epochs import ReadEpoch13, WriteEpoch13
from mediapeer.dtls.errors import CertificateRejected, DtlsError, PeerMisbehaved
from mediapeer.dtls.flights import OutgoingHandshakeMessage
from mediapeer.dtls.handshake import Handshake, HandshakeLayer, HandshakeResult, State
from mediapeer.dtls.key_schedule13 import Exporter13, KeySchedule, finished_verify_data
from mediapeer.dtls.key_update import ApplicationTraffic
from mediapeer.dtls.messages import CertificateVerify
from mediapeer.dtls.messages13 import Certificate13, CertificateEntry, Finished13
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    CipherSuite,
    CipherSuiteParameters,
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
        schedule = self._schedule = KeySchedule(self._parameters.hash_name)
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
        self._layer.switch_writer(HANDSHAKE_EPOCH)
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

    def _log(self, label: str, secret: bytes) -> None:
        if self._configuration.key_log is not None:
            self._configuration.key_log(f"{label} {self._client_random.hex()} {secret.hex()}")

    # Authentication

    def _signed_content(self, signer: Role) -> bytes:
        """What a CertificateVerify signs (RFC 8446 §4.4.3)."""
        return _SIGNATURE_PADDING + _SIGNATURE_CONTEXTS[signer] + self._transcript.digest()

    def _send_certificate(
        self,
        credentials: X509Credentials | None,
        scheme: SignatureScheme | None,
        request_context: bytes = b"",
    ) -> None:
        """Send Certificate, and CertificateVerify if there is something to verify."""
        chain = credentials.chain if credentials else ()
        self._send(Certificate13(tuple(map(CertificateEntry, chain)), request_context), HANDSHAKE_EPOCH)
        if credentials is not None and scheme is not None:
            signature = sign(credentials.private_key, scheme, self._signed_content(self.role))
            self._send(CertificateVerify(scheme, signature), HANDSHAKE_EPOCH)

    def _credentials_for(
        self, offered: Sequence[int]
    ) -> tuple[X509Credentials, SignatureScheme] | tuple[None, None]:
        """The first of our credentials that can sign by a scheme that the peer takes."""
        for credentials in self._configuration.credentials:
            usable = schemes_for_key13(credentials.private_key).intersection(offered)
            for scheme in self._configuration.signature_schemes:
                if scheme in usable:
                    return credentials, scheme
        return None, None

    def _receive_certificate(self, message: ReassembledMessage) -> Certificate13:
        certificate = Certificate13.parse(message.body)
        if certificate.request_context:
            raise PeerMisbehaved(
                "Certificate answers a request that was not made", AlertDescription.ILLEGAL_PARAMETER
            )
        if any(entry.extensions for entry in certificate.entries):
            raise PeerMisbehaved(
                "Certificate has an extension that was not offered", AlertDescription.UNSUPPORTED_EXTENSION
            )
        return certificate

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
        finished = Finished13.parse(message.body, len(expected))
        if not hmac.compare_digest(finished.verify_data, expected):
            raise PeerMisbehaved("the peer's Finished is wrong", AlertDescription.DECRYPT_ERROR)
        self._note(message)

    def _result(self, traffic: ApplicationTraffic) -> HandshakeResult:
        return HandshakeResult(
            version=ProtocolVersion.DTLS_1_3,
            cipher_suite=self._chosen_suite,
            group=self._chosen_group,
            srtp_profile=self._srtp_profile,
            alpn_protocol=self._alpn_protocol,
            server_name=self._server_name,
            peer_chain=self._peer_chain,
            exporter=Exporter13(self._parameters.hash_name, self._exporter_secret),
            next_message_seq=self._next_message_seq,
            traffic=traffic,
        )
