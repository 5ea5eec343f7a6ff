"""The command line: what it takes, what it says, what it writes."""

import os
import pathlib
import socket
import stat
import subprocess
import sys

import pytest

from mediapeer import RTCConfiguration, RTCIceTransportPolicy, __version__, cli
from mediapeer.media import RecordingOptions
from signaling import ServerOptions, SignalingServer


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mediapeer.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
    )


def exit_code(*arguments: str) -> int:
    """What the command ends with in this process, which takes a second less."""
    try:
        return cli.main(arguments)
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 1


def configuration(*arguments: str) -> tuple[list[str] | None, list[str]]:
    """The ICE addresses and server URLs that a command line leads to."""
    options = cli.build_parser().parse_args(["serve", *arguments])
    configuration = cli._configuration(options, None)
    return configuration.iceAddresses, [str(server.urls) for server in configuration.iceServers or []]


def test_the_version_is_told() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout.strip()) == (0, f"mediapeer {__version__}")


def test_the_help_teaches() -> None:
    result = run("serve", "--help")
    assert result.returncode == 0
    for word in (
        "--ice-address",
        "--stun",
        "--keylog",
        "--record-dir",
        "examples:",
        "SSLKEYLOGFILE",
        "Ctrl-C",
    ):
        assert word in result.stdout


def test_without_a_command_it_says_what_there_is() -> None:
    result = run()
    assert result.returncode == 2
    assert "COMMAND" in result.stderr


def test_on_loopback_only_loopback_is_offered_and_nobody_is_asked() -> None:
    assert configuration() == (["127.0.0.1"], [])
    assert configuration("--host", "localhost") == (["127.0.0.1"], [])
    assert configuration("--host", "::1") == (["::1"], [])
    assert configuration("--host", "192.0.2.7") == (None, [])


def test_addresses_and_servers_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAPEER_TURN_PASSWORD", "secret")
    addresses, servers = configuration(
        "--ice-address", "192.0.2.7", "--ice-address", "2001:db8::7", "--stun", "stun:192.0.2.1",
        "--turn", "turn:192.0.2.1:3478", "--turn-username", "me",
    )  # fmt: skip
    assert addresses == ["192.0.2.7", "2001:db8::7"]
    assert servers == ["stun:192.0.2.1", "turn:192.0.2.1:3478"]


def full_configuration(*arguments: str) -> RTCConfiguration:
    return cli._configuration(cli.build_parser().parse_args(["serve", *arguments]), None)


def test_a_public_address_a_port_and_the_kind_of_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAPEER_TURN_PASSWORD", "secret")
    mapped = full_configuration("--ice-address", "10.0.0.5=192.0.2.7", "--ice-port", "40000-40010")
    assert mapped.iceAddresses == ["10.0.0.5"]
    assert mapped.icePublicAddresses == {"10.0.0.5": "192.0.2.7"}
    assert mapped.icePort == range(40000, 40011)
    assert full_configuration("--ice-port", "40000").icePort == 40000
    assert full_configuration().iceLite
    assert mapped.iceLite
    assert not full_configuration("--ice", "full").iceLite
    assert not full_configuration("--host", "192.0.2.7").iceLite, (
        "which of its addresses are reached is not known"
    )
    assert not full_configuration("--stun", "stun:192.0.2.1").iceLite
    relayed = full_configuration("--turn", "turn:192.0.2.1", "--turn-username", "me", "--relay-only")
    assert relayed.iceTransportPolicy is RTCIceTransportPolicy.RELAY


def test_codecs_can_be_named_in_order() -> None:
    assert full_configuration().codecs is None
    assert full_configuration("--codecs", "VP9, vp8,opus").codecs == ("VP9", "vp8", "opus")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "http"], "is not a port"),
        (["--port", "70000"], "is not a port"),
        (["--ice-address", "localhost"], "is not an IP address"),
        (["--ice-address", "127.0.0.1=somewhere"], "is not an IP address"),
        (["--ice-address", "192.0.2.7", "--port", "0"], "calls have no UDP port"),
        (["--ice-port", "x"], "is not a port"),
        (["--ice-port", "5000-4000"], "is not a range of ports"),
        (["--ice", "heavy"], "lite"),
        (["--relay-only"], "--turn"),
        (["--max-calls", "0"], "is not a number of 1 or more"),
        (["--codecs", "VP9,VP7"], "there is no codec 'vp7'; those there are: opus, red, G722"),
        (["--codecs", ","], "no codec is named"),
        (["--stun", "stun.example"], "stun:HOST:PORT"),
        (["--stun", "stun:"], "stun:HOST:PORT"),
        (["--stun", "stun:192.0.2.1:y"], "stun:HOST:PORT"),
        (["--stun", "stun:192.0.2.1:70000"], "stun:HOST:PORT"),
        (["--stun", "turn:192.0.2.1"], "stun:HOST:PORT"),
        (["--turn", "turn:192.0.2.1:bad"], "turn:HOST:PORT"),
        (["--turn", "turnip:192.0.2.1"], "turn:HOST:PORT"),
        (["--allowed-host", "https://call.example/"], "is not the name of a host"),
        (["--allowed-host", "call.example:80"], "is not the name of a host"),
        (["--turn", "turn:192.0.2.1"], "--turn-username"),
        (["--port", "0", "--record-dir", "/dev/null/recordings"], "/dev/null is not a directory"),
        (["--record-segment", "soon"], "is not a length"),
        (["--record-segment", "0.5s"], "is not a length"),
        (["--record-minimum-free", "10X"], "is not a size"),
        (["--record-container", "avi"], "webm"),
        (["--keylog", "/nowhere/keys"], "No such file"),
        (["--host", "192.0.2.7", "--port", "0"], "cannot listen"),
        (["--host", "no.such.host.invalid", "--port", "0"], "cannot listen"),
    ],
)
def test_wrong_usage_is_said_in_words(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = exit_code("serve", *arguments), capsys.readouterr().err
    assert code in (1, 2)
    assert words in said
    assert "Traceback" not in said


def test_how_calls_are_recorded_can_be_said(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    made: list[ServerOptions] = []

    async def run_nothing(server: SignalingServer, *rest: object) -> None:
        made.append(server.options)

    monkeypatch.setattr(cli, "run_server", run_nothing)
    serve = ["serve", "--record-dir", str(tmp_path / "here")]
    chosen = ["--record-segment", "10m", "--record-minimum-free", "1.5G", "--record-container", "mkv"]
    assert cli.main(serve) == cli.main([*serve, *chosen, "--record-transcode"]) == 0
    default, other = (options.record_options for options in made)
    assert default == RecordingOptions()
    assert (other.segment_duration, other.minimum_free) == (600, 1_500_000_000)
    assert (other.container, other.transcode) == ("mkv", True)
    assert [options.record_directory for options in made] == [tmp_path / "here"] * 2


def test_a_port_that_is_taken_is_said_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert "is taken by another program" in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def test_secrets_go_to_a_file_that_its_owner_alone_can_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keys"
    path.write_text("before\n")
    path.chmod(0o644)
    with cli._KeyLog(str(path)) as log:
        log.write_line("CLIENT_RANDOM 00 11")
    assert path.read_text() == "before\nCLIENT_RANDOM 00 11\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_do_not_follow_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(cli.UsageError):
        cli._KeyLog(str(tmp_path / "link")).__enter__()
    assert not (tmp_path / "elsewhere").exists()


def test_the_environment_alone_logs_no_secrets(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    options = cli.build_parser().parse_args(["serve"])
    assert cli._KeyLog(options.keylog).path is None
    asked = cli.build_parser().parse_args(["serve", "--keylog"])
    assert cli._KeyLog(asked.keylog).path == str(tmp_path / "keys")
    monkeypatch.delenv("SSLKEYLOGFILE")
    with pytest.raises(cli.UsageError, match="SSLKEYLOGFILE"):
        cli._KeyLog(asked.keylog)


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "aiortc":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["mediapeer", "serve", "--port", "0"]
runpy.run_module("mediapeer.cli", run_name="__main__")
"""


def test_ctrl_c_while_modules_are_loaded_ends_it_without_a_word() -> None:
    result = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
