"""The calls of a server: who may begin one, what happens to it, and when it is forgotten."""

import asyncio
import collections
import dataclasses
import logging
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mediapeer import RTCConfiguration, RTCPeerConnection, UdpMux
from mediapeer.ice import host_addresses
from mediapeer.media import RecordingOptions
from signaling.call import Call, CallHandler, CallState, Direction
from signaling.echo import echo
from signaling.errors import CallRefused, HandlerError, Problem
from signaling.recordings import RecordingStore
from signaling.sdp import DescriptionError, check_description

logger = logging.getLogger(__name__)

#: Ended calls whose end can still be asked for.
REMEMBERED_CALLS = 100


class Timer(Protocol):
    """What ``call_later`` gives."""

    def cancel(self) -> None:
        """Let it not run."""


CallLater = Callable[[float, Callable[[], None]], Timer]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What a server is told beforehand."""

    configuration: RTCConfiguration = field(default_factory=RTCConfiguration)
    """For every peer connection. They share one UDP socket for each address, on ``icePort``, or on any port that is
    free when that is 0."""
    record_directory: pathlib.Path = pathlib.Path("recordings")
    record_options: RecordingOptions = field(default_factory=RecordingOptions)
    "How calls are recorded when nobody says otherwise."
    maximum_calls: int = 50
    "Calls at a time; one more is refused."
    connect_timeout: float = 30.0
    "Seconds in which a call must connect."
    call_later: CallLater | None = None
    "Starts timers; the event loop's own by default."


class SignalingServer:
    """Answers calls, makes calls, and hands each to a handler. ``create_application`` gives it an HTTP face.

        server = SignalingServer()

        @server.on_call
        async def handle(call: Call) -> None:
            ...

    Without a handler it sends back what it gets. Use it from one event loop.
    """

    def __init__(
        self, options: ServerOptions | None = None, recordings: RecordingStore | None = None
    ) -> None:
        self.options = options or ServerOptions()
        self.recordings = recordings or RecordingStore(
            self.options.record_directory, options=self.options.record_options
        )
        self.calls: dict[str, Call] = {}
        "The calls that have not ended, by id."
        self._handler: CallHandler = echo
        self._ended: collections.OrderedDict[str, str] = collections.OrderedDict()
        self._draining = False
        self._configuration = self.options.configuration
        self._mux: UdpMux | None = None
        self._opening = asyncio.Lock()

    def on_call(self, handler: CallHandler) -> CallHandler:
        """Say what to do with each call, as a decorator. See :class:`Call` for what a handler may do."""
        self._handler = handler
        return handler

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down and takes no calls."""
        return self._draining

    async def open(self) -> None:
        """Open the sockets of all calls. The first call does it when nobody has; to be told of an error before that.

        :raises OSError: when none of the addresses can be used, or the port is taken on one of them.
        """
        async with self._opening:
            if self._mux is None and self._configuration.iceMux is None and not self._draining:
                configuration = self.options.configuration
                addresses = configuration.iceAddresses
                if addresses is None:
                    addresses = host_addresses()
                self._mux = await UdpMux.open(addresses, configuration.icePort)
                self._configuration = dataclasses.replace(configuration, iceMux=self._mux)

    async def answer_call(self, offer: str) -> tuple[Call, str]:
        """Answer somebody's offer.

        :returns: the call and the answer.
        :raises Problem: when the offer cannot be used, there is no room, or the handler failed.
        """
        offer = _checked(offer, "offer")
        await self._open_for_call()
        call = self._new_call("incoming")
        try:
            await call.set_up(self._handler)
            return call, await call.answer(offer)
        except (HandlerError, CallRefused) as error:
            await call.close(str(error))
            raise _handler_problem(call, error) from error
        except Exception as error:
            await call.close("The offer could not be used.")
            raise _negotiation_problem("offer", error) from error
        except BaseException:
            await call.close("The server gave up while answering.")
            raise

    async def create_call(self) -> tuple[Call, str]:
        """Make a call of our own, with what the handler adds to it; pass the answer to :meth:`accept_answer`.

        :returns: the call and the offer.
        :raises Problem: when there is no room, or the handler failed.
        """
        await self._open_for_call()
        call = self._new_call("outgoing")
        try:
            await call.set_up(self._handler)
            return call, await call.offer()
        except (HandlerError, CallRefused) as error:
            await call.close(str(error))
            raise _handler_problem(call, error) from error
        except BaseException:
            await call.close("The server gave up while offering.")
            raise

    async def accept_answer(self, call: Call, answer: str) -> None:
        """Take the answer to a call that :meth:`create_call` made.

        :raises Problem: when the answer cannot be used, or none is awaited.
        """
        if not call.awaits_answer:
            raise Problem(409, "No answer is awaited", "The call was made by the other side, or is answered.")
        answer = _checked(answer, "answer")
        try:
            await call.accept_answer(answer)
        except Exception as error:
            await call.close("The answer could not be used.")
            raise _negotiation_problem("answer", error) from error

    def call(self, call_id: str) -> Call:
        """The call of that id.

        :raises Problem: 410 with the reason when it has ended, 404 when it is not known.
        """
        call = self.calls.get(call_id)
        if call is not None:
            return call
        reason = self._ended.get(call_id)
        if reason is not None:
            raise Problem(410, "The call has ended", reason)
        raise Problem(404, "No such call", "The call is not known here. It may have ended long ago.")

    async def close(self) -> None:
        """Take no more calls, close every recording, and end every call. Idempotent."""
        self._draining = True
        calls = list(self.calls.values())
        await asyncio.gather(*(call.close("The server is shutting down.") for call in calls))
        mux, self._mux = self._mux, None
        if mux is not None:
            await mux.close()

    async def _open_for_call(self) -> None:
        try:
            await self.open()
        except OSError as error:
            logger.error("the UDP sockets for calls cannot be opened: %s", error)
            raise Problem(
                503, "No way for media", f"The server cannot open its UDP port: {error}."
            ) from error

    def _new_call(self, direction: Direction) -> Call:
        if self._draining:
            raise Problem(
                503,
                "The server is shutting down",
                "It takes no new calls. Try again later.",
                {"Retry-After": "30"},
            )
        if len(self.calls) >= self.options.maximum_calls:
            raise Problem(
                503,
                "The server is full",
                f"It has {self.options.maximum_calls} calls, as many as it takes. Try again later.",
                {"Retry-After": "10"},
            )
        call = Call(RTCPeerConnection(self._configuration), direction, self.recordings)
        self.calls[call.id] = call
        timer = self._call_later(self.options.connect_timeout, lambda: self._give_up(call))
        call.on("state", lambda state: self._on_state(call, state, timer))
        logger.info("call %s: %s", call.id, direction)
        return call

    def _call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        call_later: CallLater = self.options.call_later or asyncio.get_running_loop().call_later
        return call_later(delay, callback)

    def _give_up(self, call: Call) -> None:
        if call.connected_at is None:
            call.end(f"The call did not connect within {self.options.connect_timeout:.0f} seconds.")

    def _on_state(self, call: Call, state: CallState, timer: Timer) -> None:
        if state is CallState.CLOSED:
            timer.cancel()
            self.calls.pop(call.id, None)
            self._ended[call.id] = call.reason or "It was closed."
            while len(self._ended) > REMEMBERED_CALLS:
                self._ended.popitem(last=False)


def _checked(sdp: str, kind: str) -> str:
    try:
        return check_description(sdp, answer=kind == "answer")
    except DescriptionError as error:
        raise Problem(400, f"The {kind} cannot be used", str(error)) from error


def _negotiation_problem(kind: str, error: Exception) -> Problem:
    """What the negotiation below raised on a description: whatever it was, the description was the cause."""
    logger.info("an %s was refused: %s: %s", kind, type(error).__name__, error)
    detail = str(error) or type(error).__name__
    return Problem(400, f"The {kind} cannot be used", f"The negotiation refused it: {detail[:200]}")


def _handler_problem(call: Call, error: HandlerError | CallRefused) -> Problem:
    if isinstance(error, CallRefused):
        return Problem(403, "The call was refused", str(error))
    return Problem(500, "The call could not be set up", f"{error} The log has more under call {call.id}.")
