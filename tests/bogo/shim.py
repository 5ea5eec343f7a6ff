"""The shim: BoringSSL's test runner starts it once per test, and it puts the engine at the end of a socket.

Exit code 0 is success, 89 "not implemented", all others are failure. A failure is told on the standard error stream,
as the class of the error, its alert in brackets, and its text; ``config.json`` maps BoringSSL's errors to those.
"""

import sys

from mediapeer.dtls import DtlsError
from tests.bogo.exchange import Exchange
from tests.bogo.flags import ExpectationFailed, Unimplemented, parse
from tests.bogo.packets import Clock, FramingError
from tests.bogo.translation import Process, translate

UNIMPLEMENTED = 89
FAILED = 1


def main(arguments: list[str]) -> int:
    """Do what the flags say; return the exit code."""
    try:
        run(arguments)
    except Unimplemented as what:
        print(f"UNIMPLEMENTED: {what}", file=sys.stderr)
        return UNIMPLEMENTED
    except DtlsError as error:
        alert = error.alert.name.lower() if error.alert is not None else ""
        print(f"{type(error).__name__} [{alert}] {error}", file=sys.stderr)
        return FAILED
    except (ExpectationFailed, FramingError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    return 0


def run(arguments: list[str]) -> None:
    """Make each connection that the flags want, one after the other."""
    initial, resumption, _ = parse(arguments)
    if initial.is_handshaker_supported:
        print("No")
        return
    if not initial.dtls:
        raise Unimplemented("the engine speaks DTLS alone")
    process, clock = Process(), Clock()
    for number in range(initial.resume_count + 1):
        flags = resumption if number else initial
        translation = translate(flags, process)
        Exchange(flags, translation, process, clock, is_resume=number > 0).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
