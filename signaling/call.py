"""One call: a peer connection, the program that handles it, and what it needs until it ends."""

import asyncio
import datetime
import enum
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar, overload

from mediapeer import (
    MediaStreamError,
    MediaStreamTrack,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from mediapeer.media import RecordingError, RecordingOptions, RelayedTrack, TrackRelay
from signaling.errors import CallRefused, HandlerError
from signaling.recordings import ActiveRecording, RecordingStore, StoredRecorder

logger = logging.getLogger(__name__)

Direction = Literal["incoming", "outgoing"]
EventName = Literal["track", "datachannel", "state"]
Listener = Callable[..., Awaitable[None] | None]
ListenerT = TypeVar("ListenerT", bound=Listener)
CallHandler = Callable[["Call"], Awaitable[None]]

#: How long the program may take to set a call up before it is answered, in seconds.
SETUP_TIMEOUT = 10.0
HANDLER_RAISED = "The program that handles calls raised an error."
#: How long the peer connection may take to close, in seconds.
CLOSE_TIMEOUT = 5.0


class CallState(enum.StrEnum):
    """Where a call is: the connection's states as W3C names them, ``closed`` being the last."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    "Nothing has come from the other side for some seconds; it may come back."
    FAILED = "failed"
    CLOSED = "closed"


class Call:
    """A call with one peer. The server makes it, and hands it to the handler before it is answered.

    A handler sets the call up: it adds tracks to :attr:`peer_connection` and listens with :meth:`on`. The
    answer (or our offer) is made when the handler returns, or when it first waits with
    :meth:`wait_connected` or :meth:`wait_closed`; from then on it may run for as long as the call lasts. What
    it raises, and what its listeners and tasks raise, ends this call and no other.
    """

    def __init__(
        self,
        peer_connection: RTCPeerConnection,
        direction: Direction,
        recordings: RecordingStore | None = None,
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        "Names the call, and whoever knows it may end it: 128 random bits."
        self.peer_connection = peer_connection
        self.direction: Direction = direction
        "``incoming``: the other side made the offer; ``outgoing``: we did."
        self.created_at = datetime.datetime.now(datetime.UTC)
        self.connected_at: datetime.datetime | None = None
        self.reason: str | None = None
        "Why it ended, in words."
        self.recording: ActiveRecording | None = None
        "The recording that runs, or ran last."
        self._state = CallState.NEW
        self._recordings = recordings
        self._relays: list[TrackRelay] = []
        self._channels: list[RTCDataChannel] = []
        self._listeners: dict[EventName, list[Listener]] = {"track": [], "datachannel": [], "state": []}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._handler_failed = False
        peer_connection.on("track", self._on_track)
        peer_connection.on("datachannel", self._on_data_channel)
        peer_connection.on("connectionstatechange", self._on_connection_state)

    @property
    def state(self) -> CallState:
        """Where the call is."""
        return self._state

    # For the handler

    @overload
    def on(self, event: EventName) -> Callable[[ListenerT], ListenerT]: ...

    @overload
    def on(self, event: EventName, listener: ListenerT) -> ListenerT: ...

    def on(
        self, event: EventName, listener: ListenerT | None = None
    ) -> ListenerT | Callable[[ListenerT], ListenerT]:
        """Listen for an event, as a method or as a decorator. The listener may be a coroutine function.

        - ``track``, with a :class:`~mediapeer.media.RelayedTrack`: the other side sends audio or video.
        - ``datachannel``, with an ``RTCDataChannel``: the other side opened one.
        - ``state``, with a :class:`CallState`: the state has changed.
        """

        def add(added: ListenerT) -> ListenerT:
            self._listeners[event].append(added)
            return added

        return add if listener is None else add(listener)

    def subscribe(self) -> list[RelayedTrack]:
        """A new reader for each track that the other side sends so far."""
        return [relay.subscribe() for relay in self._relays]

    def record(self, options: RecordingOptions | None = None, *, channels: bool = False) -> StoredRecorder:
        """Record all that the other side sends, as it sends it, until the call ends or the recorder is stopped.

        Tracks that come later are recorded too. The files are in the server's directory of recordings.

        :param options: how; by default as the server was told.
        :param channels: whether the messages of the other side's data channels are kept too.
        :returns: the recorder: it tells how far it is, and ``await recorder.stop()`` closes the files.
        :raises RecordingError: when a recording runs already, the other side sends nothing, or the call belongs to no
            server.
        """
        if self._recordings is None:
            raise RecordingError("The call belongs to no server that has a place for recordings.")
        return self.start_recording(self._recordings, options, channels=channels).recorder

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something as a part of the call: it is cancelled when the call ends, and ends it if it raises."""
        task = asyncio.create_task(coroutine, name=f"call {self.id}")
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    async def wait_connected(self) -> None:
        """Wait until media can flow.

        :raises ConnectionError: when the call ends before that.
        """
        self._ready.set()
        await self._connected.wait()
        if self._closing is not None:
            raise ConnectionError(self.reason)

    async def wait_closed(self) -> None:
        """Wait until the call has ended."""
        self._ready.set()
        await self._closed.wait()

    async def close(self, reason: str = "The server ended the call.") -> None:
        """End the call, and wait until it has: its recording is closed and its peer connection too. Idempotent.

        :param reason: why, in words; it is what the other side can read afterwards.
        """
        self.end(reason, asyncio.current_task())
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def end(self, reason: str, caller: asyncio.Task[Any] | None = None) -> None:
        """Begin to end the call, from where nothing can be awaited. Has no effect the second time."""
        if self._closing is None:
            self.reason = reason
            self._connected.set()
            self._closing = asyncio.create_task(self._close(caller), name=f"end of call {self.id}")

    # For the server

    async def set_up(self, handler: CallHandler) -> None:
        """Start the handler and wait until it has set the call up.

        :raises HandlerError: when it raised, or took more than :data:`SETUP_TIMEOUT`.
        :raises CallRefused: when it ended the call.
        """
        task = self.create_task(self._handle(handler))
        try:
            async with asyncio.timeout(SETUP_TIMEOUT):
                await self._ready.wait()
        except TimeoutError:
            task.cancel()
            raise HandlerError("The program that handles calls took too long to set this one up.") from None
        self._check_not_ending()

    async def answer(self, sdp: str) -> str:
        """Take the other side's offer and answer it.

        :raises CallRefused: when the call was ended meanwhile.
        :raises HandlerError: when one of the handler's listeners raised.
        :raises Exception: whatever the negotiation raises on an offer that it cannot use.
        """
        await self.peer_connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        self._check_not_ending()
        await self.peer_connection.setLocalDescription(await self.peer_connection.createAnswer())
        self._check_not_ending()
        return self._local_sdp()

    async def offer(self) -> str:
        """Make our offer from what the handler added.

        :raises HandlerError: when it added nothing.
        """
        description = await self.peer_connection.createOffer()
        if "\nm=" not in description.sdp:
            raise HandlerError("The program that handles calls offers neither media nor a data channel.")
        await self.peer_connection.setLocalDescription(description)
        return self._local_sdp()

    def _local_sdp(self) -> str:
        """Our description with all its candidates."""
        description = self.peer_connection.localDescription
        if description is None:
            raise CallRefused(self.reason or "The call has ended.")
        return description.sdp

    async def accept_answer(self, sdp: str) -> None:
        """Take the other side's answer to our offer, as it comes; the server's method of this name checks it.

        :raises Exception: whatever the negotiation raises on an answer that it cannot use.
        """
        await self.peer_connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    @property
    def awaits_answer(self) -> bool:
        """Whether we offered and the answer has not come."""
        return self.peer_connection.signalingState == "have-local-offer"

    def start_recording(
        self, store: RecordingStore, options: RecordingOptions | None = None, *, channels: bool = False
    ) -> ActiveRecording:
        """Record all that the other side sends, now and later.

        :param options: how; by default as the store was told.
        :param channels: whether the messages of the other side's data channels are kept too.
        :raises RecordingError: when it sends nothing that is to be recorded, or a recording runs already.
        """
        transcode = (options or store.options).transcode
        tracks = [self._recorded(relay, transcode) for relay in self._relays]
        opened = [channel for channel in self._channels if channel.readyState != "closed"]
        self.recording = store.start(self.id, tracks, self.recording, options, opened if channels else None)
        return self.recording

    # Inside

    def _check_not_ending(self) -> None:
        if self._handler_failed:
            raise HandlerError(HANDLER_RAISED)
        if self._closing is not None:
            raise CallRefused(self.reason)

    async def _handle(self, handler: CallHandler) -> None:
        try:
            await handler(self)
        except MediaStreamError:
            logger.debug("call %s: a track ended, and the handler with it", self.id)
        except Exception:
            self._handler_failed = True
            raise
        finally:
            self._ready.set()

    def _emit(self, event: EventName, *arguments: Any) -> None:
        for listener in tuple(self._listeners[event]):
            try:
                result = listener(*arguments)
                if inspect.iscoroutine(result):
                    self.create_task(result)
            except Exception as error:
                self._fail(error)

    def _on_track(self, track: MediaStreamTrack) -> None:
        relay = TrackRelay(track)
        self._relays.append(relay)
        if self.recording is not None and self.recording.running:
            self.recording.add_track(self._recorded(relay, self.recording.options.transcode))
        self._emit("track", relay.subscribe())

    def _recorded(self, relay: TrackRelay, transcode: bool) -> MediaStreamTrack:
        """What a recorder takes: the track itself, which it can have encoded beside other readers, or, where it is to
        be decoded, a reader of its own."""
        return relay.subscribe() if transcode else relay.source

    def _on_data_channel(self, channel: RTCDataChannel) -> None:
        self._channels = [each for each in self._channels if each.readyState != "closed"]
        self._channels.append(channel)
        if self.recording is not None:
            self.recording.add_channel(channel)
        self._emit("datachannel", channel)

    def _on_connection_state(self) -> None:
        state = CallState(self.peer_connection.connectionState)
        if state is self._state or self._closing is not None:
            return
        if state is CallState.CLOSED:
            self.end("The other side hung up.")
            return
        self._state = state
        logger.info("call %s: %s", self.id, state)
        if state is CallState.CONNECTED:
            self.connected_at = self.connected_at or datetime.datetime.now(datetime.UTC)
            self._connected.set()
        self._emit("state", state)
        if state is CallState.FAILED:
            self.end(self._failure())

    def _failure(self) -> str:
        errors = [str(transport.error) for transport in self.peer_connection.transports if transport.error]
        if errors:
            return f"The connection could not be secured: {errors[0]}."
        if self.connected_at is None:
            return "No network path to the other side was found."
        return "The other side has not been heard for too long."

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, MediaStreamError) or (isinstance(error, ConnectionError) and self._closing):
            return  # it read a track to its end, or waited for a call that ended
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        logger.error("call %s: the handler raised, and the call ends", self.id, exc_info=error)
        self._handler_failed = True
        self.end(HANDLER_RAISED)

    async def _close(self, caller: asyncio.Task[Any] | None) -> None:
        logger.info("call %s ends: %s", self.id, self.reason)
        # A part of the call that ends it goes on after its own close().
        tasks = [task for task in self._tasks if task is not caller]
        try:
            if self.recording is not None:
                await self.recording.close()
            for task in tasks:
                task.cancel()
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.peer_connection.close()
        except TimeoutError:
            logger.error("call %s did not close within %.0f s", self.id, CLOSE_TIMEOUT)
        except Exception:
            logger.exception("call %s did not close properly", self.id)
        finally:
            for relay in self._relays:
                await relay.close()
            self._state = CallState.CLOSED
            self._closed.set()
            self._ready.set()
            self._emit("state", CallState.CLOSED)
