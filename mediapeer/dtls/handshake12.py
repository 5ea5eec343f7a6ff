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

from collections.abc import Sequence

from mediapeer.dtls.configuration import DtlsConfiguration, Role
from mediapeer.dtls.credentials import X509Credentials, schemes_for_key, sign, verify
from mediapeer.dtls.epochs import ReadEpoch12, WriteEpoch12
from mediapeer.dtls.errors import CertificateRejected, DtlsError, PeerMisbehaved
from mediapeer.dtls.flights import OutgoingChangeCipherSpec, OutgoingHandshakeMessage
from mediapeer.dtls.handshake import Handshake, HandshakeLayer, HandshakeResult, State
from mediapeer.dtls.key_schedule import CLIENT_FINISHED_LABEL, SERVER_FINISHED_LABEL, SessionSecrets
from mediapeer.dtls.messages import CertificateVerify, Finished
from mediapeer.dtls.protection import record_protection
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.registry import (
    CIPHER_SUITE_PARAMETERS,
    AlertDescription,
    ProtocolVersion,
    SignatureScheme,
)

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

    def _note_sent(self, message: OutgoingHandshakeMessage) -> None:
        self._transcript += message.serialize()

    def _send_finished(self, label: bytes, secrets: SessionSecrets) -> None:
        self._flight.append(OutgoingChangeCipherSpec(HANDSHAKE_EPOCH))
        self._layer.switch_writer(APPLICATION_EPOCH)
        self._send(Finished(secrets.verify_data(label, bytes(self._transcript))), APPLICATION_EPOCH)

    def _note(self, message: ReassembledMessage) -> None:
        self._transcript += message.serialize()

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

    def _complete(self, secrets: SessionSecrets) -> None:
        self._state = State.COMPLETE
        self._transcript.clear()
        self._layer.handshake_completed(
            HandshakeResult(
                version=ProtocolVersion.DTLS_1_2,
                cipher_suite=self._chosen_suite,
                group=self._chosen_group,
                srtp_profile=self._srtp_profile,
                alpn_protocol=self._alpn_protocol,
                server_name=self._server_name,
                peer_chain=self._peer_chain,
                exporter=secrets,
                next_message_seq=self._next_message_seq,
                traffic=None,
            )
        )

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
