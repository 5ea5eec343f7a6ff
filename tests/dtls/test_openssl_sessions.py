"""Sessions, pre-shared keys and stapled OCSP responses against the ``openssl`` command and OpenSSL in memory."""

import dataclasses
import datetime
import functools
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from OpenSSL import SSL

from mediapeer.dtls import (
    AcceptAnyPeer,
    CipherSuite,
    ClientAuthentication,
    ConnectionFailed,
    DtlsConfiguration,
    DtlsConnection,
    HandshakeCompleted,
    PreSharedKey,
    ProtocolVersion,
    Role,
    Session,
    SessionCache,
    SessionEstablished,
    TicketKeys,
)
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS
from tests.tools.certificates import credentials, write_pem
from tests.tools.command import Command
from tests.tools.pyopenssl import OpenSslEnd, openssl_context
from tests.tools.udp import LOOPBACK, Loss, UdpAssociation, loopback_socket, no_loss

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")

ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
SRTP_LABEL = b"EXTRACTOR-dtls_srtp"
EXPORT = ["-keymatexport", SRTP_LABEL.decode(), "-keymatexportlen", "60"]
SECRET = bytes(range(16))
KEY = PreSharedKey(b"device 1", SECRET)
PSK_NAMES = {
    CipherSuite.TLS_PSK_WITH_AES_128_GCM_SHA256: "PSK-AES128-GCM-SHA256",
    CipherSuite.TLS_PSK_WITH_AES_256_GCM_SHA384: "PSK-AES256-GCM-SHA384",
    CipherSuite.TLS_PSK_WITH_AES_128_CCM: "PSK-AES128-CCM",
    CipherSuite.TLS_PSK_WITH_AES_128_CCM_8: "PSK-AES128-CCM8",
    CipherSuite.TLS_PSK_WITH_CHACHA20_POLY1305_SHA256: "PSK-CHACHA20-POLY1305",
    CipherSuite.TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-PSK-CHACHA20-POLY1305",
}
CCM_NAMES = {
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM: "ECDHE-ECDSA-AES128-CCM",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: "ECDHE-ECDSA-AES128-CCM8",
}


def configuration(**changes: Any) -> DtlsConfiguration:
    """Ours, with every suite there is, and what a test changes."""
    settings = {
        "verifier": AcceptAnyPeer(),
        "credentials": (credentials(),),
        "cipher_suites": tuple(CipherSuite),
        **changes,
    }
    return DtlsConfiguration(**settings)


def session_of(events: Any) -> Session:
    """The one session that our client may resume."""
    (session,) = (event.session for event in events if isinstance(event, SessionEstablished))
    return session


# The command, over UDP on loopback


class Commands:
    """The ``openssl`` commands of one test, and our ends beside them."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._commands: list[Command] = []
        files = write_pem(credentials("ecdsa-p256", "theirs"), directory)
        self.identity = ["-cert", str(files.certificate), "-key", str(files.private_key)]

    def server(self, *options: str) -> tuple[Command, int]:
        """An ``s_server``, which serves one client after the other, and its port."""
        command = Command(["openssl", "s_server", "-dtls1_2", "-accept", f"{LOOPBACK}:0", *options])
        self._commands.append(command)
        return command, int(command.expect(rf"ACCEPT {LOOPBACK}:(\d+)")[1])

    def connect(
        self,
        server: tuple[Command, int],
        ours: DtlsConfiguration,
        session: Session | None = None,
        lose_sent: Loss = no_loss,
    ) -> UdpAssociation:
        """Our client at the command's server."""
        command, port = server
        connection = DtlsConnection(ours, Role.CLIENT, time.monotonic(), session)
        return UdpAssociation(connection, loopback_socket(), command, peer_port=port, lose_sent=lose_sent)

    def client(self, ours: DtlsConfiguration, *options: str) -> tuple[UdpAssociation, Command]:
        """An ``s_client``, and our server."""
        udp = loopback_socket()
        target = f"{LOOPBACK}:{udp.getsockname()[1]}"
        command = Command(["openssl", "s_client", "-dtls1_2", "-connect", target, *options])
        self._commands.append(command)
        return UdpAssociation(DtlsConnection(ours, Role.SERVER, time.monotonic()), udp, command), command

    def close(self) -> None:
        """End all of them."""
        for command in self._commands:
            command.close()


@pytest.fixture
def commands(tmp_path: pathlib.Path) -> Iterator[Commands]:
    """Makes associations with commands, and ends those afterwards."""
    made = Commands(tmp_path)
    yield made
    made.close()


def assert_talks(association: UdpAssociation, command: Command) -> None:
    """The handshake ends in DTLS 1.2, and a line goes each way."""
    association.run_until(lambda: association.completed)
    assert association.connection.version is ProtocolVersion.DTLS_1_2
    association.connection.send_application_data(b"a line from us\n")
    association.run_until(lambda: b"a line from us" in command.output)
    command.write(b"a line from them\n")
    association.run_until(lambda: association.received == b"a line from them\n")


def associate(
    commands: Commands, role: Role, ours: DtlsConfiguration, *options: str
) -> tuple[UdpAssociation, Command]:
    """Our end in ``role`` and the command in the other one."""
    if role is Role.SERVER:
        return commands.client(ours, *options)
    server = commands.server(*options)
    return commands.connect(server, ours), server[0]


@needs_openssl
@ROLES
@pytest.mark.parametrize("suite", PSK_NAMES, ids=lambda suite: suite.name)
def test_each_suite_with_a_pre_shared_key(commands: Commands, role: Role, suite: CipherSuite) -> None:
    options = ["-psk", SECRET.hex(), "-psk_identity", "device 1", "-cipher", PSK_NAMES[suite]]
    if role is Role.CLIENT:
        options += ["-nocert"]
    ours = configuration(credentials=(KEY,), verifier=None)
    association, command = associate(commands, role, ours, *options)
    assert_talks(association, command)
    assert association.connection.cipher_suite is suite
    assert (association.connection.group is not None) == CIPHER_SUITE_PARAMETERS[suite].is_ephemeral
    assert association.connection.pre_shared_key_identity == b"device 1"


@needs_openssl
@pytest.mark.parametrize("name", ["PSK-AES128-CCM8", "ECDHE-PSK-CHACHA20-POLY1305"])
def test_the_hint_of_a_server(commands: Commands, name: str) -> None:
    options = ["-nocert", "-psk", SECRET.hex(), "-psk_identity", "device 1", "-psk_hint", "which one?"]
    server = commands.server(*options, "-cipher", name)
    association = commands.connect(server, configuration(credentials=(KEY,), verifier=None))
    assert_talks(association, server[0])


@needs_openssl
def test_our_hint(commands: Commands) -> None:
    ours = configuration(credentials=(KEY,), verifier=None, psk_identity_hint=b"which one?")
    options = ["-psk", SECRET.hex(), "-psk_identity", "device 1", "-cipher", "PSK-AES128-CCM8"]
    association, command = commands.client(ours, *options)
    assert_talks(association, command)


@needs_openssl
def test_an_identity_that_we_do_not_know(commands: Commands) -> None:
    ours = configuration(credentials=(KEY,), verifier=None)
    options = ["-psk", SECRET.hex(), "-psk_identity", "device 2", "-cipher", "PSK-AES128-CCM8"]
    association, command = commands.client(ours, *options)
    association.run_until(lambda: association.happened(ConnectionFailed))
    association.run_until(lambda: "alert unknown psk identity" in command.text().lower())


@needs_openssl
@ROLES
@pytest.mark.parametrize("suite", CCM_NAMES, ids=lambda suite: suite.name)
def test_ccm_with_certificates(commands: Commands, role: Role, suite: CipherSuite) -> None:
    ours = configuration()
    association, command = associate(commands, role, ours, *commands.identity, "-cipher", CCM_NAMES[suite])
    assert_talks(association, command)
    assert association.connection.cipher_suite is suite


@needs_openssl
@pytest.mark.parametrize("way", [[], ["-no_ticket"]], ids=["ticket", "session ID"])
@pytest.mark.parametrize("psk", [False, True], ids=["certificate", "PSK"])
def test_our_client_resumes(commands: Commands, way: list[str], psk: bool) -> None:
    identity = ["-nocert", "-psk", SECRET.hex(), "-psk_identity", "device 1"] if psk else commands.identity
    # The context is what OpenSSL wants of a server that asks for certificates and resumes.
    server = commands.server(*way, *identity, *([] if psk else ["-Verify", "1", "-context", "test"]))
    changes: dict[str, Any] = {"credentials": (KEY,), "verifier": None} if psk else {}
    ours = configuration(resume_sessions=True, **changes)
    first = commands.connect(server, ours)
    assert_talks(first, server[0])
    session = session_of(first.events)
    assert bool(session.ticket) == (not way)
    first.connection.close()
    first.run_until(lambda: "DONE" in server[0].text())
    second = commands.connect(server, ours, session)
    second.run_until(lambda: second.completed)
    assert second.connection.is_resumed
    second.connection.send_application_data(b"another line from us\n")
    second.run_until(lambda: b"another line from us" in server[0].output)
    assert second.connection.peer_certificate == first.connection.peer_certificate


@needs_openssl
@pytest.mark.parametrize("way", ["ticket", "session ID"])
@pytest.mark.parametrize("psk", [False, True], ids=["certificate", "PSK"])
def test_our_server_resumes(commands: Commands, tmp_path: pathlib.Path, way: str, psk: bool) -> None:
    store: dict[str, Any] = {"session_tickets": TicketKeys(), "session_cache": SessionCache()}
    options = [] if way == "ticket" else ["-no_ticket"]
    changes: dict[str, Any] = {"credentials": (KEY,), "verifier": None} if psk else {}
    options += ["-psk", SECRET.hex(), "-psk_identity", "device 1"] if psk else commands.identity
    ours = configuration(**store, **changes)
    file = str(tmp_path / "session.pem")
    first, command = commands.client(ours, "-sess_out", file, *options)
    assert_talks(first, command)
    assert len(store["session_cache"]) == (way == "session ID")
    first.run_until(lambda: "New, TLSv1.2" in command.text() or "New, TLSv" in command.text())
    first.connection.close()
    first.run_until(lambda: command.ended)
    second, command = commands.client(ours, "-sess_in", file, *EXPORT, *options)
    assert_talks(second, command)
    assert second.connection.is_resumed
    second.run_until(lambda: "Keying material: " in command.text())
    assert "Reused, TLSv" in command.text()
    ours_exported = second.connection.export_keying_material(SRTP_LABEL, None, 60)
    assert ours_exported.hex().upper() in command.text()
    assert second.connection.peer_certificate == first.connection.peer_certificate


@needs_openssl
def test_our_last_flight_is_lost(commands: Commands) -> None:
    """OpenSSL sends its flight again, and so asks for ours."""
    server = commands.server("-timeout", *commands.identity)
    ours = configuration(resume_sessions=True, maximum_version=ProtocolVersion.DTLS_1_2)
    first = commands.connect(server, ours)
    assert_talks(first, server[0])
    first.connection.close()
    first.run_until(lambda: "DONE" in server[0].text())
    lost: list[int] = []

    def lose_the_last_flight(index: int) -> bool:
        if second.completed and not lost:
            lost.append(index)
            return True
        return False

    second = commands.connect(server, ours, session_of(first.events), lose_the_last_flight)
    second.run_until(lambda: second.completed)
    before = second.connection.activity["retransmissions"]
    second.run_until(lambda: second.connection.activity["retransmissions"] > before)
    second.connection.send_application_data(b"another line from us\n")
    second.run_until(lambda: b"another line from us" in server[0].output)
    assert lost
    assert second.connection.is_resumed


# Stapled OCSP responses


@functools.cache
def ocsp_response() -> bytes:
    """A response about the credentials of the tests, by an authority that is nobody's."""
    certificate = x509.load_der_x509_certificate(credentials("ecdsa-p256", "theirs").chain[0])
    now = datetime.datetime.now(datetime.UTC)
    signer = credentials("ecdsa-p256", "theirs")
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=certificate,
            issuer=certificate,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + datetime.timedelta(days=1),
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
        .sign(signer.private_key, hashes.SHA256())  # type: ignore[arg-type]
    )
    return response.public_bytes(Encoding.DER)


@needs_openssl
@pytest.mark.parametrize("asks", [True, False])
def test_openssl_staples_a_response(commands: Commands, tmp_path: pathlib.Path, asks: bool) -> None:
    file = tmp_path / "response.der"
    file.write_bytes(ocsp_response())
    server = commands.server(*commands.identity, "-status_file", str(file))
    association = commands.connect(server, configuration(request_ocsp_response=asks))
    assert_talks(association, server[0])
    assert association.connection.peer_ocsp_response == (ocsp_response() if asks else b"")


@needs_openssl
@pytest.mark.parametrize("has", [True, False])
def test_we_staple_a_response(commands: Commands, has: bool) -> None:
    own = dataclasses.replace(credentials(), ocsp_response=ocsp_response() if has else b"")
    ours = configuration(credentials=(own,), client_authentication=ClientAuthentication.NONE)
    association, command = commands.client(ours, "-status")
    assert_talks(association, command)
    assert ("OCSP Response Status: successful" in command.text()) == has
    assert ("OCSP response: no response sent" in command.text()) == (not has)


# In memory, where each datagram can be lost

#: Says of the n-th datagram of ours, or of theirs, whether it is lost.
LossInMemory = Callable[[bool, int], bool]


class End(OpenSslEnd):
    """OpenSSL's end, which resumes a session from its first word on."""

    def __init__(self, context: SSL.Context, role: Role, session: SSL.Session | None = None) -> None:
        self._session = session
        super().__init__(context, role)

    def _proceed(self) -> None:
        if self._session is not None:
            self.ssl.set_session(self._session)
            self._session = None
        super()._proceed()


class InMemory:
    """Our end and OpenSSL's; our clock is a number."""

    def __init__(
        self,
        role: Role,
        ours: DtlsConfiguration,
        theirs: End,
        session: Session | None = None,
        loss: LossInMemory = lambda ours, index: False,
    ) -> None:
        self.now = 0.0
        self.ours = DtlsConnection(ours, role, self.now, session)
        self.theirs = theirs
        self.events: list[Any] = []
        self._loss = loss
        self._counts = {True: 0, False: 0}

    def _arriving(self, is_ours: bool, datagrams: list[bytes]) -> list[bytes]:
        first = self._counts[is_ours]
        self._counts[is_ours] += len(datagrams)
        return [d for index, d in enumerate(datagrams, first) if not self._loss(is_ours, index)]

    def exchange(self) -> bool:
        """Carry what both want to send; false when that is nothing."""
        from_us = self.ours.datagrams_to_send()
        for datagram in self._arriving(True, from_us):
            self.theirs.receive_datagram(datagram)
        from_them = self.theirs.datagrams_to_send()
        for datagram in self._arriving(False, from_them):
            self.ours.receive_datagram(datagram, self.now)
        while event := self.ours.next_event():
            self.events.append(event)
        return bool(from_us or from_them)

    def run(self) -> "InMemory":
        """Carry datagrams until both are connected, and let our clock jump to our next timer."""
        end = self.now + 5
        while self.exchange() or not self.is_connected:
            timer = self.ours.next_timeout()
            if self.is_connected or timer is None or timer > end:
                continue
            self.now = timer
            self.ours.handle_timeout(self.now)
        return self

    @property
    def is_connected(self) -> bool:
        """Whether both are."""
        return self.theirs.handshake_completed and self.ours.is_connected

    def assert_talks(self) -> None:
        """Data passes both ways, and both derive the same keys."""
        assert any(isinstance(event, HandshakeCompleted) for event in self.events)
        self._loss = lambda ours, index: False
        self.ours.send_application_data(b"from us")
        self.theirs.send(b"from them")
        while self.exchange():
            pass
        assert self.theirs.received == [b"from us"]
        assert self.events[-1].data == b"from them"
        exported = self.ours.export_keying_material(SRTP_LABEL, None, 60)
        assert exported == self.theirs.ssl.export_keying_material(SRTP_LABEL, 60)


def resumable_context(*, tickets: bool) -> SSL.Context:
    """A context of a server or client of OpenSSL's that keeps sessions."""
    context = openssl_context(credentials("ecdsa-p256", "theirs"))
    context.set_session_id(b"test")
    context.set_session_cache_mode(SSL.SESS_CACHE_BOTH)
    if not tickets:
        context.set_options(SSL.OP_NO_TICKET)
    return context


TICKETS = pytest.mark.parametrize("tickets", [True, False], ids=["ticket", "session ID"])


@TICKETS
@pytest.mark.parametrize("lost", [None, 0], ids=["nothing", "ClientHello"])
def test_our_client_resumes_in_memory(tickets: bool, lost: int | None) -> None:
    context = resumable_context(tickets=tickets)
    ours = configuration(resume_sessions=True, maximum_version=ProtocolVersion.DTLS_1_2)
    first = InMemory(Role.CLIENT, ours, End(context, Role.SERVER)).run()
    first.assert_talks()
    session = session_of(first.events)
    assert bool(session.ticket) == tickets
    theirs = End(context, Role.SERVER)
    second = InMemory(Role.CLIENT, ours, theirs, session, lambda is_ours, index: is_ours and index == lost)
    second.run().assert_talks()
    assert second.ours.is_resumed
    assert theirs.ssl.master_key() == session.secret


@TICKETS
@pytest.mark.parametrize(
    "lost", [None, (True, 0), (False, 1)], ids=["nothing", "our flight", "their Finished"]
)
def test_our_server_resumes_in_memory(tickets: bool, lost: tuple[bool, int] | None) -> None:
    ours = configuration(
        session_tickets=TicketKeys(),
        session_cache=SessionCache(),
        maximum_version=ProtocolVersion.DTLS_1_2,
    )
    context = resumable_context(tickets=tickets)
    first = InMemory(Role.SERVER, ours, End(context, Role.CLIENT)).run()
    first.assert_talks()
    theirs = End(context, Role.CLIENT, first.theirs.ssl.get_session())
    second = InMemory(Role.SERVER, ours, theirs, loss=lambda is_ours, index: (is_ours, index) == lost)
    second.run().assert_talks()
    assert second.ours.is_resumed
    assert theirs.ssl.master_key() == first.theirs.ssl.master_key()
    assert second.ours.peer_certificate == credentials("ecdsa-p256", "theirs").chain[0]


def test_openssl_takes_a_renewed_ticket() -> None:
    keys = TicketKeys()
    ours = configuration(session_tickets=keys, maximum_version=ProtocolVersion.DTLS_1_2)
    context = resumable_context(tickets=True)
    # OpenSSL spoils the session of a connection that is dropped, so all are kept.
    pairs = [InMemory(Role.SERVER, ours, End(context, Role.CLIENT)).run()]
    for _ in range(4):  # more often than a ticket of the first key would open
        keys.rotate(0.0)
        session = pairs[-1].theirs.ssl.get_session()
        pairs.append(InMemory(Role.SERVER, ours, End(context, Role.CLIENT, session)).run())
        pairs[-1].assert_talks()
        assert pairs[-1].ours.is_resumed


def test_openssl_starts_afresh_when_its_ticket_is_not_taken() -> None:
    context = resumable_context(tickets=True)
    ours = configuration(session_tickets=TicketKeys(), maximum_version=ProtocolVersion.DTLS_1_2)
    first = InMemory(Role.SERVER, ours, End(context, Role.CLIENT)).run()
    session = first.theirs.ssl.get_session()
    others = configuration(session_tickets=TicketKeys(), maximum_version=ProtocolVersion.DTLS_1_2)
    again = InMemory(Role.SERVER, others, End(context, Role.CLIENT, session)).run()
    again.assert_talks()
    assert not again.ours.is_resumed


def test_a_stapled_response_reaches_openssl_in_memory() -> None:
    own = dataclasses.replace(credentials(), ocsp_response=ocsp_response())
    seen: list[bytes] = []
    context = openssl_context(credentials("ecdsa-p256", "theirs"))
    context.set_ocsp_client_callback(lambda connection, response, data: seen.append(response) or True)

    class Asking(End):
        def _proceed(self) -> None:
            if not self.handshake_completed and not seen:
                self.ssl.request_ocsp()
            super()._proceed()

    pair = InMemory(Role.SERVER, configuration(credentials=(own,)), Asking(context, Role.CLIENT)).run()
    pair.assert_talks()
    assert seen == [ocsp_response()]
