"""Who may talk to the server: the checks on each request, and the header fields on each response."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from signaling.errors import Problem

SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses requests that a page from elsewhere could make a browser send.

    A page of a stranger's site can have its own name resolve to this server (DNS rebinding) and is then of one
    origin with it: so the name in ``Host`` must be one of ours. On loopback that is a loopback name or the
    configured host. Otherwise it may also be any IP address, which cannot be rebound, and this machine's name.

    :param host: the host that the server listens on.
    :param allowed_hosts: further names under which the server is reached.
    """

    def __init__(self, host: str, allowed_hosts: Iterable[str] = ()) -> None:
        self._names = {host.lower(), *(name.lower() for name in allowed_hosts)}
        self._public = not is_loopback(host)
        if self._public:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def check(self, request: web.Request) -> None:
        """See that a request may be served.

        :raises Problem: when it names another host, or comes from a page of another origin.
        """
        host = request.headers.get(hdrs.HOST, "")
        match = _HOST.fullmatch(host)
        if match is None or not self._is_ours(match["name"].strip("[]").lower().rstrip(".")):
            raise Problem(
                403,
                "Wrong host",
                "This server does not answer to that name in the Host header, so that no other site can pass "
                "for it. Use the address it printed at its start, or name the host with --allowed-host.",
            )
        if request.method not in SAFE_METHODS and not self._is_same_origin(request, host):
            raise Problem(
                403,
                "Wrong origin",
                "The request comes from a page of another origin. Calls and recordings are changed only from "
                "the server's own page, or by programs that send no Origin.",
            )

    def _is_ours(self, name: str) -> bool:
        if name in self._names or is_loopback(name):
            return True
        if not self._public:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    @staticmethod
    def _is_same_origin(request: web.Request, host: str) -> bool:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            # Browsers send Origin with every such request; what they say of the site is believed as well.
            return request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
