"""The command line: ``mediapeer serve`` and ``mediapeer recordings``."""

import sys

# Loading takes a second, in which Ctrl-C is nothing to show a traceback for.
try:
    import argparse
    import asyncio
    import gc
    import ipaddress
    import logging
    import os
    import pathlib
    import re
    from collections.abc import Callable, Sequence
    from typing import IO

    from mediapeer import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, __version__
    from mediapeer.commands import CommandError, recordings
    from mediapeer.ice import ServerUrl
    from mediapeer.media import RecordingOptions
    from mediapeer.media.state import DEFAULT_MINIMUM_FREE
    from mediapeer.peer.codecs import NAMES as CODEC_NAMES
    from mediapeer.peer.codecs import CodecRegistry
    from signaling import AddressInUse, MediaPortError, ServerOptions, SignalingServer, run_server
    from signaling.guard import is_loopback
except KeyboardInterrupt:
    sys.exit(130)

TURN_PASSWORD_VARIABLE = "MEDIAPEER_TURN_PASSWORD"  # noqa: S105  the variable's name

_DESCRIPTION = "mediapeer answers calls from browsers over WebRTC, with a DTLS engine of its own."

_SERVE_EPILOG = f"""\
examples:
  mediapeer serve
      Open http://127.0.0.1:8080/ on this machine and press Call. Nothing leaves the machine.

  mediapeer serve --host 0.0.0.0 --port 9000
      Reachable from other machines. Browsers give a page camera and microphone only over HTTPS or on
      localhost, so put a proxy with TLS in front, and name it with --allowed-host. There are no accounts:
      whoever reaches the server can call it and can see and delete the recordings.

  mediapeer serve --host 0.0.0.0 --ice-address 10.0.0.5=192.0.2.7 --ice-port 40000
      On a machine behind a 1:1 NAT: its own address is 10.0.0.5, others reach it at 192.0.2.7. All calls use UDP
      port 40000, so the firewall needs one opening.

  mediapeer serve --stun stun:stun.example.org:3478
      Find this machine's public address. No STUN server is asked unless you name one.

  mediapeer serve --turn turn:192.0.2.9:3478 --turn-username me --relay-only
      Reach the other side by way of a TURN server, and never otherwise.

  mediapeer serve --codecs VP9,VP8,opus
      Have browsers send VP9, or VP8 when they have no VP9, and Opus.

  mediapeer serve --keylog keys.txt
      Write the secrets of every handshake, to read a capture of the call with Wireshark.

environment:
  {TURN_PASSWORD_VARIABLE}   the password for --turn
  SSLKEYLOGFILE             where --keylog writes when it is given without a file; ignored without --keylog

The page's buttons are an API as well: POST /api/calls with {{"type": "offer", "sdp": ...}}.
Ctrl-C (SIGINT) or SIGTERM closes recordings properly, ends the calls and exits with 0.
"""

_LEVELS = ("debug", "info", "warning", "error")


class UsageError(Exception):
    """The command cannot be run as it was given. The message says what to do."""


def build_parser() -> argparse.ArgumentParser:
    """The options, with their help."""
    parser = argparse.ArgumentParser(prog="mediapeer", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"mediapeer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="answer calls and serve the page",
        description="Answer calls from browsers, serve the page to call from, and record.",
        epilog=_SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_http_options(serve.add_argument_group("the page and the API"))
    calls = serve.add_argument_group("calls")
    _add_call_options(calls)
    _add_media_options(calls)
    _add_record_options(serve.add_argument_group("recordings"))
    _add_log_options(serve.add_argument_group("looking inside"))
    recordings.add_parser(commands)
    return parser


def _add_http_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)"
    )
    group.add_argument(
        "--port",
        type=_port,
        default=8080,
        metavar="N",
        help="TCP port, 0 for any that is free (default: %(default)s)",
    )
    group.add_argument(
        "--allowed-host",
        action="append",
        type=_host_name,
        default=[],
        metavar="NAME",
        help="a further name under which browsers reach the server; may be repeated",
    )


def _add_call_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ice-address",
        action="append",
        type=_ice_address,
        metavar="ADDRESS[=PUBLIC]",
        help="an address of this machine to offer to the other side, or the public address that a 1:1 NAT gives "
        "it; may be repeated (default: 127.0.0.1 when --host is a loopback address, otherwise all of this "
        "machine's)",
    )
    group.add_argument(
        "--ice-port",
        type=_ice_port,
        default=0,
        metavar="N[-M]",
        help="UDP port of all calls, or a range to take the first free one from (default: any that is free)",
    )
    group.add_argument(
        "--ice",
        choices=("auto", "lite", "full"),
        default="auto",
        help="lite: answer connectivity checks only, which sets calls up sooner, for addresses that the other side "
        "can reach; full: check paths too (default: lite when the addresses are known and no STUN or TURN server "
        "is named)",
    )
    group.add_argument(
        "--stun",
        action="append",
        type=_stun_url,
        default=[],
        metavar="URL",
        help="a STUN server, as stun:HOST:PORT; may be repeated",
    )
    group.add_argument(
        "--turn",
        action="append",
        type=_turn_url,
        default=[],
        metavar="URL",
        help="a TURN server, as turn:HOST:PORT or turns:HOST:PORT; may be repeated",
    )
    group.add_argument(
        "--relay-only", action="store_true", help="use TURN servers only, so that nobody learns our addresses"
    )
    group.add_argument(
        "--turn-username",
        metavar="NAME",
        help=f"user name for --turn; the password is taken from {TURN_PASSWORD_VARIABLE}",
    )
    group.add_argument(
        "--max-calls", type=_count, default=50, metavar="N", help="calls at a time (default: %(default)s)"
    )


def _add_media_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--codecs",
        type=_codecs,
        metavar="NAME[,NAME...]",
        help="codecs to take, the best first, which browsers then send: some of "
        + ", ".join(CODEC_NAMES)
        + ". "
        "Without a name for audio, or for video, all of that kind (default: all, in the browser's order). "
        "Pictures are sent back as VP8 or H264 only",
    )


def _add_record_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--record-dir",
        type=pathlib.Path,
        default=pathlib.Path("recordings"),
        metavar="DIR",
        help="where recordings go; made when needed (default: ./%(default)s)",
    )
    group.add_argument(
        "--record-container",
        choices=("auto", "webm", "mp4", "mkv"),
        default="auto",
        help="auto: what suits the codecs that the browser sends; nothing is encoded anew (default: %(default)s)",
    )
    group.add_argument(
        "--record-segment",
        type=_length,
        metavar="LENGTH",
        help="begin another file after so long, as in 90s, 10m or 1h (default: one file)",
    )
    group.add_argument(
        "--record-minimum-free",
        type=_size,
        default=DEFAULT_MINIMUM_FREE,
        metavar="SIZE",
        help="end recordings rather than leave less on the disk, as in 500M or 2G (default: 100M)",
    )
    group.add_argument(
        "--record-transcode",
        action="store_true",
        help="decode, and encode anew as VP8 and Opus; it takes many times as much of the processor",
    )


def _add_log_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--log-level", choices=_LEVELS, default="info", help="how much to say (default: %(default)s)"
    )
    group.add_argument(
        "--keylog",
        nargs="?",
        const="",
        metavar="FILE",
        help="append the secrets of each DTLS handshake to FILE, for Wireshark; whoever reads it can read the "
        "calls. Without FILE: to the file that SSLKEYLOGFILE names",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :returns: the exit status: 0, or 1 with a message on standard error, or 130 after Ctrl-C before the server
        has started or during another command. Wrong usage exits with 2.
    """
    options = build_parser().parse_args(arguments)
    try:
        if options.command == "recordings":
            return recordings.run(options)
        _set_up_logging(options.log_level)
        with _KeyLog(options.keylog) as key_log:
            return _serve(options, key_log.write_line if key_log.path else None)
    except (UsageError, CommandError) as error:
        print(f"mediapeer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(options: argparse.Namespace, key_log: Callable[[str], None] | None) -> int:
    try:
        configuration = _configuration(options, key_log)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _check_record_directory(options.record_dir)
    server = SignalingServer(
        ServerOptions(
            configuration=configuration,
            record_directory=options.record_dir,
            record_options=RecordingOptions(
                container=options.record_container,
                segment_duration=options.record_segment,
                minimum_free=options.record_minimum_free,
                transcode=options.record_transcode,
            ),
            maximum_calls=options.max_calls,
        )
    )

    def announce(url: str) -> None:
        # What was loaded stays for good: to look for garbage in it, again and again, stops every call for a while.
        gc.collect()
        gc.freeze()
        print(f"mediapeer {__version__}: open {url} and press Call. Ctrl-C ends it.", flush=True)

    try:
        asyncio.run(run_server(server, options.host, options.port, options.allowed_host, announce))
    except MediaPortError as error:
        raise UsageError(
            f"calls have no UDP port: {error}. Give other --ice-address or --ice-port options."
        ) from error
    except AddressInUse:
        raise UsageError(
            f"port {options.port} on {options.host} is taken by another program (perhaps another mediapeer). "
            "End it, or choose another port: mediapeer serve --port 8081"
        ) from None
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {options.host} port {options.port}: {error}") from error
    return 0


def _configuration(options: argparse.Namespace, key_log: Callable[[str], None] | None) -> RTCConfiguration:
    servers = [RTCIceServer(urls=url) for url in options.stun]
    if options.turn:
        password = os.environ.get(TURN_PASSWORD_VARIABLE)
        if options.turn_username is None or password is None:
            raise UsageError(f"--turn needs --turn-username, and the password in {TURN_PASSWORD_VARIABLE}")
        servers += [
            RTCIceServer(urls=url, username=options.turn_username, credential=password)
            for url in options.turn
        ]
    elif options.relay_only:
        raise UsageError("--relay-only needs a TURN server: name one with --turn")
    mapping: dict[str, str | None] = dict(options.ice_address or ())
    if not mapping and is_loopback(options.host):
        mapping["::1" if options.host == "::1" else "127.0.0.1"] = None
    is_reachable = bool(mapping) and not servers
    return RTCConfiguration(
        iceServers=servers,
        iceTransportPolicy=RTCIceTransportPolicy.RELAY if options.relay_only else RTCIceTransportPolicy.ALL,
        iceAddresses=list(mapping) or None,
        icePort=options.ice_port,
        iceLite=options.ice == "lite" or (options.ice == "auto" and is_reachable),
        icePublicAddresses={own: public for own, public in mapping.items() if public is not None},
        codecs=options.codecs,
        keyLog=key_log,
    )


def _check_record_directory(directory: pathlib.Path) -> None:
    """See that recordings can be kept there, without making it yet."""
    path = directory.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    if not path.is_dir():
        raise UsageError(f"--record-dir {directory}: {path} is not a directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"--record-dir {directory}: nothing may be written to {path}")


class _KeyLog:
    """The file that handshake secrets are appended to, readable by its owner alone."""

    def __init__(self, argument: str | None) -> None:
        self.path: str | None = None
        self._file: IO[str] | None = None
        if argument is not None:
            self.path = argument or os.environ.get("SSLKEYLOGFILE")
            if not self.path:
                raise UsageError("--keylog without a file needs SSLKEYLOGFILE in the environment")

    def __enter__(self) -> "_KeyLog":
        if self.path is not None:
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(self.path, flags, 0o600)
                os.fchmod(descriptor, 0o600)
            except OSError as error:
                raise UsageError(f"--keylog {self.path}: {error.strerror}") from error
            self._file = os.fdopen(descriptor, "w", encoding="ascii")
            print(
                f"mediapeer: the secrets of every call are written to {self.path}; delete it when you are done",
                file=sys.stderr,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write_line(self, line: str) -> None:
        """Append a line, at once."""
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # Their debug output holds whole session descriptions, and so ICE passwords.
    for name in ("aiortc", "aioice"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return port


def _codecs(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    try:
        CodecRegistry.of(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _length(text: str) -> float:
    """Seconds, from a number with ``s``, ``m`` or ``h`` behind it, or with nothing."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh]?)", text)
    seconds = float(match[1]) * {"m": 60, "h": 3600}.get(match[2], 1) if match else 0.0
    if seconds < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a length of a second or more: write it like 90s or 10m"
        )
    return seconds


def _size(text: str) -> int:
    """Bytes, from a number with ``k``, ``M`` or ``G`` behind it, or with nothing."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)([kMG]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write it like 500M or 2G")
    return int(float(match[1]) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(match[2], 1))


def _stun_url(text: str) -> str:
    return _server_url(text, "stun", "stun:HOST:PORT")


def _turn_url(text: str) -> str:
    return _server_url(text, "turn", "turn:HOST:PORT or turns:HOST:PORT")


def _server_url(text: str, kind: str, form: str) -> str:
    try:
        is_right = ServerUrl.parse(text).is_turn is (kind == "turn")
    except ValueError:
        is_right = False
    if not is_right:
        raise argparse.ArgumentTypeError(f"{text!r} is not the URL of a {kind.upper()} server: write {form}")
    return text


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a host: give the name alone, like call.example.org"
        )
    return text


def _ice_address(text: str) -> tuple[str, str | None]:
    own, equals, public = text.partition("=")
    return _address(own), _address(public) if equals else None


def _ice_port(text: str) -> int | range:
    first, dash, last = text.partition("-")
    if not dash:
        return _port(text)
    ports = range(_port(first), _port(last) + 1)
    if not ports or ports.start == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of ports: write it like 40000-40010")
    return ports


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an IP address: give one of this machine's, like 192.0.2.7"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
