"""Cookies that prove an address without any state (RFC 6347 §4.2.1)."""

import hmac
import struct

COOKIE_LENGTH = 32  # Firefox takes no longer one, and RFC 4347 allowed no more

_TIME = struct.Struct("!Q")
_MAC_LENGTH = COOKIE_LENGTH - _TIME.size


class CookieFactory:
    """Makes and checks cookies: a time, and a MAC over it, the peer's address and the random of its ClientHello.

    :param secret: 32 bytes or more. All servers that answer on one address share it.
    :param lifetime: how long a cookie is good, in seconds.
    """

    def __init__(self, secret: bytes, lifetime: float) -> None:
        self._secret = secret
        self._lifetime_ms = round(lifetime * 1000)

    def make(self, address: bytes, client_random: bytes, now: float) -> bytes:
        """The cookie for a ClientHello with ``client_random`` that came from ``address``."""
        time = _TIME.pack(max(0, round(now * 1000)))
        return time + self._mac(time, address, client_random)

    def check(self, cookie: bytes, address: bytes, client_random: bytes, now: float) -> bool:
        """Whether ``cookie`` is one of ours, for this address and random, and not too old."""
        if len(cookie) != COOKIE_LENGTH:
            return False
        time = cookie[: _TIME.size]
        if not hmac.compare_digest(cookie[_TIME.size :], self._mac(time, address, client_random)):
            return False
        return 0 <= round(now * 1000) - int.from_bytes(time, "big") <= self._lifetime_ms

    def _mac(self, time: bytes, address: bytes, client_random: bytes) -> bytes:
        message = time + len(address).to_bytes(2, "big") + address + client_random
        return hmac.digest(self._secret, message, "sha256")[:_MAC_LENGTH]
