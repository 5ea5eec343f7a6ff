"""Cookies that prove an address without any state (RFC 6347 §4.2.1, RFC 9147 §5.1)."""

import hmac
import struct

TIME_LENGTH = 8
MAC_LENGTH = 24
#: The length of a cookie without contents. Firefox takes no longer one in a HelloVerifyRequest.
BARE_COOKIE_LENGTH = TIME_LENGTH + MAC_LENGTH

_TIME = struct.Struct("!Q")


class CookieFactory:
    """Makes and checks cookies: a time, what is to be remembered, and a MAC over both and over what they are for.

    They are for one address, and for a ClientHello with one random.

    :param secret: 32 bytes or more. All servers that answer on one address share it.
    :param lifetime: how long a cookie is good, in seconds.
    """

    def __init__(self, secret: bytes, lifetime: float) -> None:
        self._secret = secret
        self._lifetime_ms = round(lifetime * 1000)

    def make(self, address: bytes, client_random: bytes, now: float, contents: bytes = b"") -> bytes:
        """The cookie for a ClientHello with ``client_random`` that came from ``address``."""
        body = _TIME.pack(max(0, round(now * 1000))) + contents
        return body + self._mac(body, address, client_random)

    def open(self, cookie: bytes, address: bytes, client_random: bytes, now: float) -> bytes | None:
        """The contents, if ``cookie`` is one of ours, for this address and random, and not too old."""
        if len(cookie) < BARE_COOKIE_LENGTH:
            return None
        body, mac = cookie[:-MAC_LENGTH], cookie[-MAC_LENGTH:]
        if not hmac.compare_digest(mac, self._mac(body, address, client_random)):
            return None
        age = round(now * 1000) - _TIME.unpack_from(body)[0]
        return body[TIME_LENGTH:] if 0 <= age <= self._lifetime_ms else None

    def _mac(self, body: bytes, address: bytes, client_random: bytes) -> bytes:
        lengths = len(body).to_bytes(2, "big") + len(address).to_bytes(2, "big")
        return hmac.digest(self._secret, lengths + body + address + client_random, "sha256")[:MAC_LENGTH]
