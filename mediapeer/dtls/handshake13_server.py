"""The server's side of the DTLS 1.3 handshake."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mediapeer.dtls import extensions
from mediapeer.dtls.choice13 import (
    Choice13,
    check_client_hello13,
    choose13,
    choose_group13,
    client_shares,
    read_psk_offer,
    requests_certificate,
    takes_psk_dhe,
)
from mediapeer.dtls.configuration import ClientAuthentication, DtlsConfiguration, Role
from mediapeer.dtls.credentials import SigningCredentials
from mediapeer.dtls.errors import CertificateRejected, PeerMisbehaved
from mediapeer.dtls.handshake import HandshakeLayer, PeerIdentity, State
from mediapeer.dtls.handshake13 import HANDSHAKE_EPOCH, Handshake13
from mediapeer.dtls.key_exchange import answer_key_share
from mediapeer.dtls.key_update import ApplicationTraffic
from mediapeer.dtls.messages import RANDOM_LENGTH, ClientHello, ServerHello
from mediapeer.dtls.messages13 import (
    HELLO_RETRY_REQUEST_RANDOM,
    CertificateRequest13,
    EncryptedExtensions,
)
from mediapeer.dtls.psk import OfferedPsk
from mediapeer.dtls.psk_offer import expected_binder
from mediapeer.dtls.reassembly import ReassembledMessage
from mediapeer.dtls.record import MAXIMUM_PLAINTEXT_LENGTH
from mediapeer.dtls.registry import (
    AlertDescription,
    CipherSuite,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
)
from mediapeer.dtls.transcript13 import Transcript

_RETRY_BODY_VERSION = extensions.serialize_uint16(ProtocolVersion.DTLS_1_3)


@dataclass(frozen=True, slots=True)
class RetryState:
    """What is to be remembered of a first ClientHello that was answered by a HelloRetryRequest."""

    hello_hash: bytes
    "The hash of the first ClientHello, by the hash of the cipher suite."
    cipher_suite: CipherSuite
    group: NamedGroup | None
    "The group of which a share was asked for, or ``None`` when it was for the cookie only."
    cookie: bytes
    "The cookie that was sent; empty when none was."


class ServerHandshake13(Handshake13):
    """A server that has settled on DTLS 1.3.

    :param retry: given when a stateless listener has sent a HelloRetryRequest already.
    """

    role = Role.SERVER

    def __init__(
        self,
        configuration: DtlsConfiguration,
        layer: HandshakeLayer,
        next_message_seq: int,
        retry: RetryState | None = None,
    ) -> None:
        super().__init__(configuration, layer, next_message_seq, Transcript())
        self._retry = retry
        self._hello_retry_requested = retry is not None
        self._first_random: bytes | None = None
        self._first_psk: OfferedPsk | None = None
        self._takes_tickets = False
        self._traffic: ApplicationTraffic | None = None
        self._state = State.CLIENT_HELLO
        self._handlers = {
            State.CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: self._on_client_hello},
            State.CLIENT_CERTIFICATE: {HandshakeType.CERTIFICATE: self._on_certificate},
            State.CERTIFICATE_VERIFY: {HandshakeType.CERTIFICATE_VERIFY: self._on_certificate_verify},
            State.FINISHED: {HandshakeType.FINISHED: self._on_finished},
            State.COMPLETE: {},
        }

    def peer_goes_on(self) -> None:
        """A client that begins its last flight has the whole of ours, and can read what we say in epoch 3."""
        if self._traffic is not None:
            self._layer.switch_writer(self._traffic.write_epoch)

    def _on_client_hello(self, message: ReassembledMessage) -> None:
        hello = ClientHello.parse(message.body)
        check_client_hello13(hello)
        if self._first_random is not None:
            self._compare_with_first(hello)
        self._client_random = hello.random
        self._resumed, self._peer = None, PeerIdentity()  # what a first ClientHello has led to does not hold
        pinned = self._retry.cipher_suite if self._retry is not None else None
        if self._retry is not None and not self._transcript_has_retry:
            self._choose(self._retry.cipher_suite)
            self._rebuild_transcript(self._retry)
        choice = choose13(self._configuration, hello, self._layer.now, pinned=pinned)
        # The binder goes first: tickets travel in the open, and whoever has seen one could have its owner judged.
        self._check_binder(choice, hello, message.body)
        if choice.session is not None and not self._may_take_over(choice.session):
            choice = choose13(self._configuration, hello, self._layer.now, pinned=pinned, may_resume=False)
            self._check_binder(choice, hello, message.body)
        self._choose(choice.cipher_suite)
        shares = client_shares(hello)
        if self._retry is not None:
            group = self._check_retried(hello, shares)
        else:
            group = choose_group13(self._configuration, hello)
            if group not in shares:
                self._first_psk = choice.psk
                self._send_retry(message, hello, group)
                return
        self._note(message)
        self._takes_tickets = self._configuration.session_tickets is not None and takes_psk_dhe(hello)
        self._send_flight(hello, choice, group, shares[group])

    # Pre-shared keys (RFC 8446 §4.2.11)

    def _check_binder(self, choice: Choice13, hello: ClientHello, body: bytes) -> None:
        """Make sure that the client knows the key that it names, in constant time."""
        offer = read_psk_offer(hello)
        if choice.psk is None or offer is None:
            return
        expected = expected_binder(choice.psk, self._transcript, body, offer)
        if not hmac.compare_digest(offer.binders[choice.psk_index], expected):
            raise PeerMisbehaved("the binder of the pre-shared key is wrong", AlertDescription.DECRYPT_ERROR)

    def _use_psk(self, choice: Choice13) -> None:
        self._psk = choice.psk
        if choice.session is None and choice.psk is not None and choice.credentials is not None:
            identity = getattr(choice.credentials, "identity", None)
            self._peer = replace(self._peer, pre_shared_key_identity=identity)

    # HelloRetryRequest (RFC 8446 §4.1.4)

    @property
    def _transcript_has_retry(self) -> bool:
        return self._first_random is not None

    def _send_retry(self, message: ReassembledMessage, hello: ClientHello, group: NamedGroup) -> None:
        self._note(message)
        self._retry = RetryState(self._transcript.digest(), self._chosen_suite, group, b"")
        self._hello_retry_requested = True
        self._first_random = hello.random
        self._transcript.restart_from_hash(self._retry.hello_hash)
        self._send(hello_retry_request(self._retry))
        self._end_flight()

    def _rebuild_transcript(self, retry: RetryState) -> None:
        """Go on where a listener stopped that kept nothing but what its cookie says."""
        self._transcript.restart_from_hash(retry.hello_hash)
        request = hello_retry_request(retry)
        self._transcript.add(request.handshake_type, request.serialize())
        self._first_random = self._client_random

    def _compare_with_first(self, hello: ClientHello) -> None:
        """Make sure that a second ClientHello is the first one again, with the same PSK (RFC 8446 §4.1.2)."""
        if hello.random != self._first_random:
            raise PeerMisbehaved(
                "the second ClientHello is not the first one again", AlertDescription.ILLEGAL_PARAMETER
            )
        if self._first_psk is None:
            return
        offer = read_psk_offer(hello)
        if offer is None:
            raise PeerMisbehaved(
                "the second ClientHello lacks pre_shared_key", AlertDescription.MISSING_EXTENSION
            )
        if all(entry.identity != self._first_psk.identity for entry in offer.identities):
            raise PeerMisbehaved(
                "the second ClientHello lacks the pre-shared key that was chosen",
                AlertDescription.ILLEGAL_PARAMETER,
            )

    def _check_retried(self, hello: ClientHello, shares: Mapping[int, bytes]) -> NamedGroup:
        """Make sure that the second ClientHello does what it was asked to, and nothing else (RFC 8446 §4.1.2)."""
        retry = self._retry
        if retry is None:
            raise PeerMisbehaved("nothing was asked for", AlertDescription.INTERNAL_ERROR)
        body = hello.extensions.get(ExtensionType.COOKIE)
        cookie = b"" if body is None else extensions.parse_cookie(body)
        if not hmac.compare_digest(cookie, retry.cookie):
            raise PeerMisbehaved(
                "the second ClientHello has another cookie", AlertDescription.ILLEGAL_PARAMETER
            )
        if retry.group is None:
            group = choose_group13(self._configuration, hello)
        else:
            group = retry.group
            if list(shares) != [group]:
                raise PeerMisbehaved(
                    "the second ClientHello lacks the one share it was asked for",
                    AlertDescription.ILLEGAL_PARAMETER,
                )
        if group not in shares:
            raise PeerMisbehaved("no key share fits, again", AlertDescription.ILLEGAL_PARAMETER)
        return group

    # Our first flight

    def _send_flight(self, hello: ClientHello, choice: Choice13, group: NamedGroup, share: bytes) -> None:
        encrypted = self._answer_offer(hello.extensions)
        if choice.psk is not None:
            self._use_psk(choice)
        else:
            encrypted |= self._agree_on_certificates(hello, choice)
            if not requests_certificate(self._configuration):
                self._verify_peer(())  # while an alert can still be read by the client
        self._group = group
        self._credentials = choice.credentials
        limit = self._agree_on_record_size(hello, encrypted)
        public, secret = answer_key_share(group, share)
        self._send_server_hello(group, public, choice)
        self._enter_handshake(secret)
        if limit is not None:
            self._limit_records(limit)
        self._send(EncryptedExtensions(encrypted), HANDSHAKE_EPOCH)
        self._state = State.FINISHED
        if choice.signing is not None:
            if requests_certificate(self._configuration):
                self._request_certificate()
            self._send_certificate(choice.signing, choice.scheme, _stapled(hello, choice.signing))
        self._send_finished(self._server_handshake_secret)
        self._traffic = self._enter_application()
        self._layer.install_writer(self._traffic.writer())
        # Not before: a client that has no ServerHello cannot read why there is none.
        self._layer.switch_writer(HANDSHAKE_EPOCH)
        self._end_flight()

    def _agree_on_certificates(self, hello: ClientHello, choice: Choice13) -> dict[int, bytes]:
        """Settle the types of both sides' certificates (RFC 7250 §4.2); what a client did not ask is not said."""
        answer: dict[int, bytes] = {}
        if ExtensionType.SERVER_CERTIFICATE_TYPE in hello.extensions and choice.signing is not None:
            answer[ExtensionType.SERVER_CERTIFICATE_TYPE] = bytes([choice.signing.certificate_type])
        if not requests_certificate(self._configuration):
            return answer
        self._settle_client_certificate_type(hello.extensions, answer)
        return answer

    def _agree_on_record_size(self, hello: ClientHello, answer: dict[int, bytes]) -> int | None:
        """Answer the client's record_size_limit with ours; returns what it takes (RFC 8449 §4)."""
        body = hello.extensions.get(ExtensionType.RECORD_SIZE_LIMIT)
        if body is None:
            return None
        ours = self._configuration.record_size_limit or MAXIMUM_PLAINTEXT_LENGTH
        answer[ExtensionType.RECORD_SIZE_LIMIT] = extensions.serialize_uint16(ours)
        return extensions.parse_record_size_limit(body)

    def _send_server_hello(self, group: NamedGroup, public: bytes, choice: Choice13) -> None:
        random = self._configuration.random_bytes(RANDOM_LENGTH)
        answer: dict[int, bytes] = {
            ExtensionType.SUPPORTED_VERSIONS: extensions.serialize_uint16(ProtocolVersion.DTLS_1_3),
            ExtensionType.KEY_SHARE: extensions.serialize_server_share(group, public),
        }
        if choice.psk is not None:
            answer[ExtensionType.PRE_SHARED_KEY] = extensions.serialize_uint16(choice.psk_index)
        # The session ID of a DTLS 1.3 client is not echoed (RFC 9147 §5.3).
        self._send(ServerHello(ProtocolVersion.DTLS_1_2, random, self._chosen_suite, answer))

    def _request_certificate(self) -> None:
        block = {
            int(ExtensionType.SIGNATURE_ALGORITHMS): extensions.serialize_uint16_list(
                self._configuration.signature_schemes
            )
        }
        if self._configuration.certificate_authorities:
            block[ExtensionType.CERTIFICATE_AUTHORITIES] = extensions.serialize_certificate_authorities(
                self._configuration.certificate_authorities
            )
        self._send(CertificateRequest13(block), HANDSHAKE_EPOCH)
        self._state = State.CLIENT_CERTIFICATE

    # The client's last flight

    def _on_certificate(self, message: ReassembledMessage) -> None:
        chain = self._receive_certificate(message, ())
        if not chain and self._configuration.client_authentication is ClientAuthentication.REQUIRED:
            raise CertificateRejected("the client sent no certificate", AlertDescription.CERTIFICATE_REQUIRED)
        self._verify_peer(chain)
        self._note(message)
        self._state = State.CERTIFICATE_VERIFY if chain else State.FINISHED

    def _on_certificate_verify(self, message: ReassembledMessage) -> None:
        self._receive_certificate_verify(message)
        self._state = State.FINISHED

    def _on_finished(self, message: ReassembledMessage) -> None:
        self._receive_finished(message, self._client_handshake_secret)
        traffic = self._traffic
        if traffic is None:
            raise PeerMisbehaved("Finished comes too early", AlertDescription.UNEXPECTED_MESSAGE)
        if self._takes_tickets:
            self._derive_resumption_secret()
        self._layer.forget_flight()
        self._layer.install_reader(traffic.reader(self._layer.counters))
        self._state = State.COMPLETE
        self._layer.handshake_completed(self._result(traffic, is_resumable=self._takes_tickets))


def _stapled(hello: ClientHello, credentials: SigningCredentials) -> dict[int, bytes]:
    """What goes with our certificate because the client asked for it (RFC 8446 §4.4.2.1, RFC 6962 §3.3)."""
    stapled: dict[int, bytes] = {}
    body = hello.extensions.get(ExtensionType.STATUS_REQUEST)
    if (
        body is not None
        and extensions.asks_for_ocsp(body)
        and (response := credentials.stapled_ocsp_response())
    ):
        stapled[ExtensionType.STATUS_REQUEST] = extensions.serialize_certificate_status(response)
    timestamps = credentials.signed_certificate_timestamps
    if timestamps and ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP in hello.extensions:
        stapled[ExtensionType.SIGNED_CERTIFICATE_TIMESTAMP] = timestamps
    return stapled


def hello_retry_request(retry: RetryState) -> ServerHello:
    """The HelloRetryRequest that ``retry`` remembers; the same bytes each time (RFC 8446 §4.1.4)."""
    block: dict[int, bytes] = {ExtensionType.SUPPORTED_VERSIONS: _RETRY_BODY_VERSION}
    if retry.group is not None:
        block[ExtensionType.KEY_SHARE] = extensions.serialize_uint16(retry.group)
    if retry.cookie:
        block[ExtensionType.COOKIE] = extensions.serialize_cookie(retry.cookie)
    return ServerHello(ProtocolVersion.DTLS_1_2, HELLO_RETRY_REQUEST_RANDOM, retry.cipher_suite, block)
