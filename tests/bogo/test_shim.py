"""The shim without the runner: these tests speak its framing themselves. One runs the real thing, where it is."""

import json
import os
import pathlib
import socket
import stat
import struct
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from mediapeer.dtls import (
    AcceptAnyPeer,
    ApplicationData,
    ClientAuthentication,
    DtlsConfiguration,
    DtlsConnection,
    HandshakeCompleted,
    Role,
    TicketKeys,
    X509Credentials,
)

from . import shim, suite
from .flags import parse

MILLISECOND = 1_000_000
NO_TIMEOUT = 2**64 - 1
SHIM_ID = 7


class FakeRunner:
    """The other end of the shim's socket: it says what a test tells it to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.port = self._listener.getsockname()[1]

    def accept(self) -> None:
        """Take the shim's connection and read who it says it is."""
        self._socket, _ = self._listener.accept()
        self._socket.settimeout(10)
        self._file = self._socket.makefile("rb")
        assert struct.unpack("<Q", self._file.read(8)) == (SHIM_ID,)

    def say(self, opcode: bytes, value: int) -> None:
        """Send an opcode with its number."""
        self._socket.sendall(opcode + struct.pack(">Q" if opcode in b"TE" else ">I", value))

    def send(self, datagram: bytes) -> None:
        """Send a datagram."""
        self._socket.sendall(b"P" + struct.pack(">I", len(datagram)) + datagram)

    def receive(self) -> bytes:
        """The next datagram of the shim; empty for an acknowledgement of time, and at the end."""
        if self._file.read(1) != b"P":
            return b""
        return self._file.read(*struct.unpack(">I", self._file.read(4)))

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self._socket.close()
        self._listener.close()


def run_shim(arguments: list[str], script: Callable[[FakeRunner], None]) -> int:
    """Run the shim against a runner that follows ``script``; return its exit code."""
    runner = FakeRunner()
    failures: list[BaseException] = []

    def play() -> None:
        try:
            runner.accept()
            script(runner)
        except BaseException as failure:
            failures.append(failure)
        finally:
            runner.close()

    thread = threading.Thread(target=play)
    thread.start()
    code = shim.main(["-port", str(runner.port), "-shim-id", str(SHIM_ID), "-dtls", *arguments])
    thread.join()
    if failures:
        raise failures[0]
    return code


def serve(data: bytes) -> Callable[[FakeRunner], None]:
    """A script: be a server, send ``data`` when the handshake is done, and want it back, every bit turned."""
    configuration = DtlsConfiguration(
        verifier=AcceptAnyPeer(),
        credentials=(X509Credentials.generate(),),
        client_authentication=ClientAuthentication.NONE,
        session_tickets=TicketKeys(),
    )

    def script(runner: FakeRunner) -> None:
        server = DtlsConnection(configuration, Role.SERVER, 0.0)
        while True:
            datagram = runner.receive()
            if not datagram:
                raise AssertionError("the shim went away")
            server.receive_datagram(datagram, 0.0)
            while (event := server.next_event()) is not None:
                if isinstance(event, HandshakeCompleted):
                    server.send_application_data(data)
                elif isinstance(event, ApplicationData):
                    assert event.data == bytes(byte ^ 0xFF for byte in data)
                    return
            for each in server.datagrams_to_send():
                runner.send(each)

    return script


def test_shim_shakes_hands_and_sends_data_back(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_shim([], serve(b"\x00some data\xff")) == 0
    assert capfd.readouterr() == ("", "")


def test_time_goes_on_when_the_runner_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    hellos = []

    def script(runner: FakeRunner) -> None:
        hellos.append(runner.receive())
        runner.say(b"E", 400 * MILLISECOND)
        runner.say(b"T", 300 * MILLISECOND)
        assert runner.receive() == b""
        runner.say(b"E", 100 * MILLISECOND)
        # Within 15 ms of its time a timer is due.
        runner.say(b"T", 84 * MILLISECOND)
        assert runner.receive() == b""
        runner.say(b"E", 16 * MILLISECOND)
        runner.say(b"T", 2 * MILLISECOND)
        assert runner.receive() == b""
        hellos.append(runner.receive())
        runner.say(b"E", 800 * MILLISECOND)

    # The runner goes away in the middle of the handshake, and nothing else is wrong.
    assert run_shim([], script) == 1
    assert capfd.readouterr().err == "ExpectationFailed: the runner went away during the handshake\n"
    assert len(hellos[0]) == len(hellos[1]) > 100


@pytest.mark.parametrize("away", [401 * MILLISECOND, NO_TIMEOUT])
def test_a_wrong_timeout_fails_the_test(away: int, capfd: pytest.CaptureFixture[str]) -> None:
    def script(runner: FakeRunner) -> None:
        runner.receive()
        runner.say(b"E", away)
        runner.receive()

    assert run_shim([], script) == 1
    assert "time-out" in capfd.readouterr().err


def test_the_first_timeout_is_a_flag(capfd: pytest.CaptureFixture[str]) -> None:
    def script(runner: FakeRunner) -> None:
        runner.receive()
        runner.say(b"E", 250 * MILLISECOND)

    assert run_shim(["-initial-timeout-duration-ms", "250"], script) == 1
    assert "the runner went away" in capfd.readouterr().err


def test_errors_are_told_with_class_alert_and_text(capfd: pytest.CaptureFixture[str]) -> None:
    def script(runner: FakeRunner) -> None:
        with pytest.raises(AssertionError, match="went away"):
            serve(b"data")(runner)

    assert run_shim(["-verify-peer", "-verify-fail"], script) == 1
    assert capfd.readouterr().err == "CertificateRejected [handshake_failure] the verifier refuses the peer\n"


def test_a_refused_configuration_is_an_error_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert shim.main(["-port", "1", "-shim-id", "1", "-dtls", "-no-tls12", "-no-tls13"]) == 1
    assert capfd.readouterr().err.startswith("ConfigurationError [] no version is left")


@pytest.mark.parametrize(
    "flags", [["-use-quantum-keys"], ["-on-resume-use-quantum-keys"], ["-mtu", "large"], ["-mtu"]]
)
def test_an_unknown_flag_is_named(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert shim.main(["-port", "1", "-shim-id", "1", *flags]) == 89
    assert flags[0] in capfd.readouterr().err


def test_without_dtls_there_is_nothing_to_test(capfd: pytest.CaptureFixture[str]) -> None:
    assert shim.main(["-port", "1", "-shim-id", "1"]) == 89
    assert "DTLS alone" in capfd.readouterr().err


def test_there_is_no_handshaker(capfd: pytest.CaptureFixture[str]) -> None:
    assert shim.main(["-is-handshaker-supported"]) == 0
    assert capfd.readouterr().out == "No\n"


def test_flags_have_prefixes_types_and_credentials() -> None:
    initial, resumption, retry = parse(
        [
            *("-server", "-mtu", "512", "-curves", "29", "-curves", "23", "-on-resume-verify-fail"),
            *(
                "-on-initial-expect-no-hrr",
                "-ocsp-response",
                "AQID",
                "-new-x509-credential",
                "-key-file",
                "a",
            ),
            *("-on-shim-psk", "secret", "-on-retry-mtu", "600"),
        ]
    )
    assert (initial.server, initial.mtu, initial.curves) == (True, 512, [29, 23])
    assert (initial.verify_fail, resumption.verify_fail) == (False, True)
    assert (initial.expect_no_hrr, resumption.expect_no_hrr) == (True, False)
    assert initial.psk == resumption.psk == b"secret"
    assert (resumption.mtu, retry.mtu) == (512, 600)
    assert initial.default_credential.ocsp_response == b"\x01\x02\x03"
    assert initial.default_credential.key_file == b""
    assert [each.key_file for each in initial.credentials] == [b"a"]


# The suite around the runner


def fake_runner(directory: pathlib.Path, source: str) -> pathlib.Path:
    """A command in the runner's place; ``skipped`` holds the tests that it is told to skip."""
    path = directory / "runner"
    prologue = "import os, sys\nskipped = sys.argv[sys.argv.index('-skip') + 1].split(';')\n"
    path.write_text(f"#!{sys.executable}\n{prologue}{textwrap.dedent(source)}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_what_is_otherwise_than_expected_is_listed(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = fake_runner(
        tmp_path,
        """
        print("PASSED (Good-DTLS)")
        print("UNIMPLEMENTED (Odd-DTLS)")
        print("FAILED (Bad-DTLS)\\nwant:\\n\\tmore\\n")
        print("PASSED (Excused-One-DTLS)")
        print("FAILED (Excused-Two-DTLS)")
        sys.exit(1)
        """,
    )
    results = suite.run_tests(runner, "*", 1)
    expectations = suite.Expectations({"Excused-*": "for a reason", "Gone": "for none"})
    assert not suite.report(results, expectations, whole=True, verbose=True)
    printed = capsys.readouterr().out
    assert "unexpected pass: Excused-One-DTLS (expected.json: for a reason)" in printed
    assert "unexpected: Odd-DTLS UNIMPLEMENTED" in printed
    assert "unexpected: Bad-DTLS FAILED\nwant:\n\tmore" in printed
    assert "Excused-Two-DTLS" not in printed
    assert "no test is called Gone" in printed
    assert "5 tests, 2 of them excluded; unexpected: 1 passes, 2 others" in printed


def test_the_suite_outlives_a_panic_of_the_runner(tmp_path: pathlib.Path) -> None:
    runner = fake_runner(
        tmp_path,
        """
        for name in ("A-DTLS", "B-DTLS", "C-DTLS"):
            if name in skipped:
                continue
            if name == "B-DTLS":
                sys.stdout.flush()
                print("Test 'B-DTLS' panicked.\\npanic: no such thing", file=sys.stderr)
                os._exit(2)
            print(f"PASSED ({name})")
        """,
    )
    results = suite.run_tests(runner, "*", 1)
    assert results.outcomes == {"A-DTLS": "PASSED", "B-DTLS": "FAILED", "C-DTLS": "PASSED"}
    assert "no such thing" in results.details["B-DTLS"]


def test_a_runner_that_does_not_run_is_an_error(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = fake_runner(tmp_path, "sys.exit('no certificate')")
    assert suite.main(["--runner", str(runner), "--json", str(tmp_path / "out.json")]) == 2
    assert "no certificate" in capsys.readouterr().err


@pytest.mark.skipif("MEDIAPEER_BOGO_RUNNER" not in os.environ, reason="MEDIAPEER_BOGO_RUNNER names no runner")
@pytest.mark.timeout(600)
def test_a_part_of_the_real_suite_is_as_expected(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "out.json"
    runner = os.environ["MEDIAPEER_BOGO_RUNNER"]
    arguments = [
        "--runner",
        runner,
        "--filter",
        "Basic-*DTLS*;DTLS-Retransmit-*;MTU-*",
        "--json",
        str(output),
    ]
    assert suite.main(arguments) == 0
    assert "PASSED" in {each["outcome"] for each in json.loads(output.read_text())["tests"].values()}
