"""A UDP relay between two ends on loopback, which delays, reorders or loses what they send to each other."""

import asyncio
import collections
import functools
import random
import re
from collections.abc import Callable
from typing import Literal, cast, get_args

LOOPBACK = "127.0.0.1"

Sender = Literal["offerer", "answerer"]
Kind = Literal["STUN request", "STUN answer", "DTLS", "SRTP"]
Address = tuple[str, int]

#: Says of each datagram, by who sent it and what is in it, whether it is lost.
Losing = Callable[[Sender, bytes], bool]

_SENDERS: dict[str, Sender] = {"offer": "offerer", "answer": "answerer"}
_CANDIDATE_LINE = re.compile(r"^a=candidate:.*\r\n", re.MULTILINE)
_CANDIDATE = re.compile(
    rf"^(a=candidate:\S+ 1 udp \d+ {re.escape(LOOPBACK)}) (\d+) (typ host\b.*)$", re.MULTILINE | re.IGNORECASE
)


def kind_of(datagram: bytes) -> Kind:
    """What is in it (RFC 7983). Of STUN, what asks is told from what answers (RFC 8489 §5)."""
    if datagram[0] > 3:
        return "DTLS" if is_dtls(datagram) else "SRTP"
    return "STUN answer" if datagram[0] & 1 else "STUN request"


def is_dtls(datagram: bytes) -> bool:
    """Whether it is DTLS, rather than STUN or SRTP (RFC 7983)."""
    return 20 <= datagram[0] <= 63


def lose_nothing(sender: Sender, datagram: bytes) -> bool:
    """Every datagram arrives."""
    return False


def lose_first_dtls() -> Losing:
    """The first datagram of the handshake is lost, whoever sends it."""
    lost = False

    def loses(sender: Sender, datagram: bytes) -> bool:
        nonlocal lost
        if lost or not is_dtls(datagram):
            return False
        lost = True
        return True

    return loses


def lose_at_random(rate: float, seed: int) -> Losing:
    """Any datagram, of STUN, DTLS or SRTP, is lost with the probability ``rate``.

    What ``seed`` makes of a sender's n-th check, answer to a check, or datagram of DTLS or SRTP depends on nothing
    else: not on the other sender, nor on how much of another kind goes between.
    """
    generators = {
        (sender, kind): random.Random(f"{seed} {sender} {kind}")
        for sender in _SENDERS.values()
        for kind in get_args(Kind)
    }

    def loses(sender: Sender, datagram: bytes) -> bool:
        return generators[sender, kind_of(datagram)].random() < rate

    return loses


def lose_media(losing: Losing) -> Losing:
    """Of SRTP and SRTCP what ``losing`` says is lost; checks and the handshake arrive."""
    return lambda sender, datagram: kind_of(datagram) == "SRTP" and losing(sender, datagram)


class Jitter:
    """How long each datagram is on its way: longer or shorter, in order but for some.

    :param seconds: up to so long, each as likely as another. One that is late holds up those behind it.
    :param seed: what the times are drawn from, for each sender by itself.
    :param reordered: how probable it is that a datagram is overtaken by those behind it: 0 to 1.
    :param overtaken_for: by those of so many seconds more.
    """

    def __init__(
        self, seconds: float, seed: int, *, reordered: float = 0.0, overtaken_for: float = 0.02
    ) -> None:
        self._seconds = seconds
        self._reordered = reordered
        self._overtaken_for = overtaken_for
        self._generators = {sender: random.Random(f"{seed} {sender}") for sender in _SENDERS.values()}
        self._latest = dict.fromkeys(_SENDERS.values(), 0.0)

    def due(self, sender: Sender, now: float) -> float:
        """When a datagram arrives that was sent ``now``, in seconds of the same clock."""
        generator = self._generators[sender]
        due = now + generator.random() * self._seconds
        if generator.random() < self._reordered:
            return due + self._overtaken_for
        # A timer of the same time could be the first.
        self._latest[sender] = max(due, self._latest[sender] + 1e-6)
        return self._latest[sender]


class _Side(asyncio.DatagramProtocol):
    """The relay's socket that stands for one end: what comes in for that end leaves by the other socket."""

    def __init__(self, relay: "Relay", sender: Sender) -> None:
        self._relay = relay
        self._sender = sender
        "Who sends to this socket: the other end than the one that it stands for."
        self.end: Address | None = None
        "Where the end that this socket stands for really is."
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    @property
    def port(self) -> int:
        """Where the other end shall send to."""
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self.other is None or self.end is None or self._relay.takes_away(self._sender, data):
            return
        if (due := self._relay.due(self._sender)) is not None:
            asyncio.get_running_loop().call_at(due, self.other.send, data, self.end)
        else:
            self.other.send(data, self.end)

    def send(self, data: bytes, end: Address) -> None:
        """Let a datagram out, unless the relay was closed while it was on its way."""
        if not self.transport.is_closing():
            self.transport.sendto(data, end)


class Relay:
    """Stands between an offerer and an answerer, each of whom takes it for the other.

    :param delay: seconds each way.
    :param loses: which datagrams are lost.
    :param jitter: how much longer than ``delay`` each takes.
    """

    def __init__(
        self, delay: float = 0.0, loses: Losing = lose_nothing, jitter: Jitter | None = None
    ) -> None:
        self.delay = delay
        self._jitter = jitter
        self._cut_until = 0.0
        self.carried: collections.Counter[Sender] = collections.Counter()
        "How many datagrams of each sender went on."
        self.lost: collections.Counter[Sender] = collections.Counter()
        "How many did not."
        self._loses = loses
        self._sides: dict[Sender, _Side] = {
            "offerer": _Side(self, "answerer"),
            "answerer": _Side(self, "offerer"),
        }
        self._sides["offerer"].other = self._sides["answerer"]
        self._sides["answerer"].other = self._sides["offerer"]

    async def open(self) -> None:
        """Open both sockets."""
        loop = asyncio.get_running_loop()
        for side in self._sides.values():
            await loop.create_datagram_endpoint(functools.partial(_itself, side), local_addr=(LOOPBACK, 0))

    def close(self) -> None:
        """Close both sockets."""
        for side in self._sides.values():
            side.transport.close()

    def cut(self, seconds: float) -> None:
        """Lose everything from now on, for some time."""
        self._cut_until = asyncio.get_running_loop().time() + seconds

    def due(self, sender: Sender) -> float | None:
        """When a datagram that has come now goes on, by the event loop's clock; ``None`` for at once."""
        if not self.delay and self._jitter is None:
            return None
        sent = asyncio.get_running_loop().time() + self.delay
        return sent if self._jitter is None else self._jitter.due(sender, sent)

    def takes_away(self, sender: Sender, datagram: bytes) -> bool:
        """Decide on a datagram, and count it."""
        is_cut = asyncio.get_running_loop().time() < self._cut_until
        loses = self._loses(sender, datagram) or is_cut
        (self.lost if loses else self.carried)[sender] += 1
        return loses

    def through(self, kind: str, sdp: str) -> str:
        """A description with the relay in place of the end that gave it.

        Its one candidate is the first that was on loopback, of the bundled transport; the others are left out.

        :param kind: the description's type, ``offer`` or ``answer``.
        :raises ValueError: when it has no candidate on loopback.
        """
        side = self._sides[_SENDERS[kind]]
        first = _CANDIDATE.search(sdp)
        if first is None:
            raise ValueError(f"no UDP candidate on loopback in the {kind}:\n{sdp}")
        side.end = (LOOPBACK, int(first[2]))
        relayed = f"{first[1]} {side.port} {first[3].rstrip()}\r\n"

        def replace(line: re.Match[str]) -> str:
            return relayed if line[0].rstrip() == first[0].rstrip() else ""

        return _CANDIDATE_LINE.sub(replace, sdp)


def _itself(side: _Side) -> _Side:
    return side
