"""The release of aiortc that senders, receivers, SCTP and codecs come from."""

import importlib.metadata

#: The release whose private parts are used here; a contract test pins what is used of them.
AIORTC_RELEASE = "1.16"


def check_aiortc() -> None:
    """Make sure that the aiortc that is installed is the one this package stands on.

    :raises ImportError: when it is not; the message says what to install.
    """
    installed = importlib.metadata.version("aiortc")
    if installed != AIORTC_RELEASE and not installed.startswith(AIORTC_RELEASE + "."):
        raise ImportError(
            f"mediapeer stands on aiortc {AIORTC_RELEASE}, and aiortc {installed} is installed. "
            f'Install the right one: pip install "aiortc=={AIORTC_RELEASE}.*"'
        )
