"""One connection of the shim: the handshake, what must have come of it, and the data that is sent back."""

import contextlib
from collections import deque

from mediapeer.dtls import (
    AlertDescription,
    ApplicationData,
    ConnectionClosed,
    ConnectionFailed,
    DtlsConnection,
    HandshakeCompleted,
    ProtocolVersion,
    Role,
    Session,
    SessionEstablished,
)

from .flags import ExpectationFailed, Flags
from .packets import NANOSECONDS, NO_TIMEOUT, Clock, PacketStream
from .translation import TIMER_GRANULARITY, Process, Translation

MICROSECONDS = 1_000_000
INITIAL_WRITE = b"hello"


def expect(condition: bool, what: str) -> None:
    """Fail the test unless ``condition`` holds."""
    if not condition:
        raise ExpectationFailed(what)


class Exchange:
    """A connection with the runner, from the first datagram to the end of the stream."""

    def __init__(
        self, flags: Flags, translation: Translation, process: Process, clock: Clock, *, is_resume: bool
    ) -> None:
        self._flags = flags
        self._translation = translation
        self._process = process
        self._clock = clock
        self._is_resume = is_resume
        self._data: deque[bytes] = deque()
        self._is_done = False
        self._is_closed = False
        self._got_session = False
        role = Role.SERVER if flags.server else Role.CLIENT
        self._offered, process.session = process.session, None
        expect(flags.server or not is_resume or self._offered is not None, "there is no session to offer")
        self._cached_before = process.session_cache.additions
        self._connection = DtlsConnection(translation.configuration, role, clock.now, self._offered)
        self._stream = PacketStream(flags.port, flags.shim_id, ipv6=flags.ipv6)

    def run(self) -> None:
        """Make the connection and do what the flags say.

        :raises DtlsError: when it fails.
        :raises ExpectationFailed: when it comes out otherwise than the runner wants.
        """
        try:
            self._handshake()
            if self._flags.send_alert:
                self._send_alert()
            else:
                self._talk()
            self._check_at_the_end()
            self._connection.close()
        finally:
            self._flush_at_the_end()
            self._stream.close()

    def _handshake(self) -> None:
        while not self._is_done:
            if not self._step():
                raise ExpectationFailed("the runner went away during the handshake")
        if not self._flags.implicit_handshake:
            self._check_handshake()

    def _send_alert(self) -> None:
        self._connection.abort(AlertDescription.DECOMPRESSION_FAILURE)

    def _talk(self) -> None:
        """Write what is to be written, then send back what comes, changed, until the runner has had enough."""
        flags, connection = self._flags, self._connection
        if flags.export_keying_material:
            context = flags.export_context if flags.use_export_context else None
            connection.send_application_data(
                connection.export_keying_material(flags.export_label, context, flags.export_keying_material)
            )
        if flags.shim_writes_first:
            connection.send_application_data(INITIAL_WRITE)
        while True:
            if flags.key_update_before_read:
                connection.update_keys(request_peer=False)
            while not self._data and not self._is_closed:
                if not self._step():
                    return
            if not self._data:
                return
            connection.send_application_data(bytes(byte ^ 0xFF for byte in self._data.popleft()))

    # The engine and the runner

    def _step(self) -> bool:
        """Send what is due, take one thing from the runner, and see what it did; false at the end of the stream."""
        self._flush()
        said = self._stream.receive()
        if said is None:
            return False
        opcode, value = said
        connection, clock = self._connection, self._clock
        if isinstance(value, bytes):
            connection.receive_datagram(value, clock.now)
        elif opcode == b"T":
            self._stream.acknowledge_time()
            clock.advance(value)
            connection.handle_timeout(clock.now)
        elif opcode == b"E":
            self._check_timeout(value)
        elif opcode == b"M":
            connection.set_mtu(value)
        else:
            connection.set_initial_retransmission_timeout(value / 1000)
        self._take_events()
        return True

    def _check_timeout(self, nanoseconds: int) -> None:
        timeout = self._connection.next_timeout()
        if nanoseconds == NO_TIMEOUT:
            expect(timeout is None, f"there must be no time-out, but there is one at {timeout}")
            return
        expect(timeout is not None, f"there must be a time-out in {nanoseconds / NANOSECONDS} s")
        assert timeout is not None
        remaining = timeout - self._clock.now
        away = round(remaining * MICROSECONDS) if remaining >= TIMER_GRANULARITY else 0
        wanted = nanoseconds * MICROSECONDS // NANOSECONDS
        expect(away == wanted, f"the next time-out is {away} us away, not {wanted}")

    def _take_events(self) -> None:
        while (event := self._connection.next_event()) is not None:
            match event:
                case HandshakeCompleted():
                    self._is_done = True
                case ApplicationData(data):
                    if data:  # reading nothing is no read
                        self._data.append(data)
                case ConnectionClosed():
                    self._is_closed = True
                case ConnectionFailed(error):
                    raise error
                case SessionEstablished(session):
                    self._process.session = session
                    self._got_session = self._got_session or self._is_new(session)

    def _flush(self) -> None:
        datagrams = self._connection.datagrams_to_send()
        if datagrams:
            self._stream.send_datagrams(datagrams)

    def _flush_at_the_end(self) -> None:
        with contextlib.suppress(OSError):  # the runner may have gone
            self._flush()

    # What must have come of it

    def _check_handshake(self) -> None:
        flags, connection = self._flags, self._connection
        is_resumed = self._is_resume and not flags.expect_session_miss
        expect(connection.is_resumed == is_resumed, f"is_resumed is {connection.is_resumed}")
        for wanted, got in (
            (flags.expect_version, connection.version),
            (flags.expect_cipher, connection.cipher_suite),
            (flags.expect_curve_id, connection.group),
        ):
            expect(not wanted or wanted == got, f"{got!r} was negotiated, not {wanted:#06x}")
        if flags.expect_server_name:
            name = (connection.server_name or "").encode()
            expect(name == flags.expect_server_name, f"the server name is {name!r}")
        alpn = flags.select_alpn if flags.server else flags.expect_alpn
        expect(
            (connection.alpn_protocol or b"") == alpn,
            f"ALPN chose {connection.alpn_protocol!r}, not {alpn!r}",
        )
        if flags.expect_hrr or flags.expect_no_hrr:
            expect(connection.hello_retry_requested == flags.expect_hrr, "the number of hellos is wrong")
        self._check_authentication()
        self._check_sessions()

    def _check_authentication(self) -> None:
        flags, connection, translation = self._flags, self._connection, self._translation
        has_chain = bool(connection.peer_certificate_chain)
        own = connection.credentials
        number = next((i for i, each in enumerate(translation.credentials) if each is own), -1)
        if flags.expect_selected_credential is not None:
            wanted = flags.expect_selected_credential
            expect(number == wanted, f"the credentials {number} were chosen, not {wanted}")
        is_psk = bool(flags.psk) or (number >= 0 and flags.credentials[number].kind == "psk")
        if flags.expect_no_peer_cert or is_psk or flags.expect_peer_rpk_sha256:
            expect(not has_chain, "the peer sent a certificate")
        elif not flags.server or flags.require_any_client_certificate:
            expect(has_chain, "the peer sent no certificate")
        if flags.expect_ocsp_response:
            expect(connection.peer_ocsp_response == flags.expect_ocsp_response, "the OCSP response is wrong")
        if flags.expect_signed_cert_timestamps:
            timestamps = connection.peer_signed_certificate_timestamps
            expect(timestamps == flags.expect_signed_cert_timestamps, "the SCT list is wrong")

        verifier, process = translation.verifier, self._process
        if verifier.was_asked:
            process.verification_failed = verifier.has_failed
        if flags.expect_verify_result:
            expect(process.verification_failed == flags.verify_fail, "the peer is not judged as it should be")

    def _check_sessions(self) -> None:
        flags, connection = self._flags, self._connection
        was_cached = self._process.session_cache.additions > self._cached_before
        if not self._is_resume and (flags.expect_session_id or flags.expect_no_session_id):
            expect(was_cached == flags.expect_session_id, f"the server's cache got a session: {was_cached}")
        if not flags.server and connection.version is ProtocolVersion.DTLS_1_2:
            is_new = not connection.is_resumed or flags.expect_ticket_renewal
            self._check_got_session(is_new and not flags.expect_no_session)

    def _check_at_the_end(self) -> None:
        flags = self._flags
        if not flags.server and self._connection.version is ProtocolVersion.DTLS_1_3:
            self._check_got_session(not flags.expect_no_session)
        if flags.expect_ticket_supports_early_data:
            session = self._process.session
            expect(session is not None and session.maximum_early_data > 0, "the ticket allows no early data")
        if flags.expect_msg_callback:
            # The engine answers close_notify by itself, which the runner's trace ends before.
            trace = "".join(self._translation.trace).removesuffix("write alert 1 0\n")
            expect(trace == flags.expect_msg_callback.decode(), f"the trace is {trace!r}")

    def _is_new(self, session: Session) -> bool:
        """Whether a session has another name than the one that was offered."""
        offered = self._offered
        return offered is None or (session.ticket, session.session_id) != (offered.ticket, offered.session_id)

    def _check_got_session(self, wanted: bool) -> None:
        expect(self._got_session == wanted, f"{'a' if self._got_session else 'no'} new session was given")
