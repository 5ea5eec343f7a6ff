"""Installs and builds the other ends that tests talk to, before the tests: ``python -m tests.tools.prepare``.

What cannot be had here is said, and fails nothing: the tests that need it are skipped, and say so too.
"""

import concurrent.futures
import time

from tests.tools import endpoints, wolfssl


def _endpoints() -> str | None:
    """What stands in Node, and pion; why one of them cannot be had."""
    reasons = [f"{name}: {reason}" for name in endpoints.NAMES if (reason := endpoints.refusal(name))]
    for name in endpoints.NAMES:
        if endpoints.refusal(name) is None:
            endpoints.command(name)
    return "; ".join(reasons) or None


def _wolfssl() -> str | None:
    if reason := wolfssl.refusal():
        return reason
    try:
        wolfssl.executable()
    except wolfssl.Unavailable as unavailable:
        return str(unavailable)
    return None


def main() -> None:
    """Prepare all at once, and say how that went where it took a while."""
    works = {"endpoints in Node and Go": _endpoints, "wolfSSL": _wolfssl}
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ready = {pool.submit(work): name for name, work in works.items()}
        for done in concurrent.futures.as_completed(ready):
            seconds = time.monotonic() - started
            try:
                reason = done.result()
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            if reason:
                print(f"{ready[done]}: {reason}", flush=True)
            elif seconds > 5:
                print(f"{ready[done]}: ready after {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
