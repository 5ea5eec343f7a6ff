"""The server's HTTP face: the JSON API, the recordings and the page."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from mediapeer.media import RecordingError
from signaling.connections import Connection
from signaling.errors import Problem
from signaling.guard import SECURITY_HEADERS, Guard
from signaling.pages import load_pages
from signaling.server import SignalingServer
from signaling.status import describe_call

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The longest body of a request, in bytes.
MAXIMUM_BODY = 65_536
#: How long a client may take to send a body, in seconds.
BODY_TIMEOUT = 10.0


def create_application(server: SignalingServer, guard: Guard) -> web.Application:
    """The application for aiohttp: every response has the security headers, every error is in words.

    :param server: whose calls and recordings it serves. It is closed when the application shuts down.
    :param guard: decides which requests are served at all.
    :raises FileNotFoundError: when the page's files are not there.
    """
    application = web.Application(client_max_size=MAXIMUM_BODY, middlewares=[_middleware(guard)])
    api = Api(server)
    application.add_routes(
        [
            web.post("/api/calls", api.answer_call),
            web.post("/api/calls/outgoing", api.create_call),
            web.put("/api/calls/{id}/answer", api.accept_answer),
            web.get("/api/calls/{id}", api.get_call),
            web.delete("/api/calls/{id}", api.delete_call),
            web.post("/api/calls/{id}/recording", api.start_recording),
            web.delete("/api/calls/{id}/recording", api.stop_recording),
            web.get("/api/recordings", api.list_recordings),
            web.get("/api/recordings/{name}", api.get_recording),
            web.delete("/api/recordings/{name}", api.delete_recording),
        ]
    )
    load_pages().add_routes(application)

    async def close(_: web.Application) -> None:
        await server.close()

    application.on_shutdown.append(close)
    return application


class Api:
    """The handlers of the JSON API."""

    def __init__(self, server: SignalingServer) -> None:
        self._server = server

    async def answer_call(self, request: web.Request) -> web.Response:
        """``POST /api/calls``: an offer in, an answer out."""
        offer = await _read_description(request, "offer")
        call, answer = await self._server.answer_call(offer)
        return _created(f"/api/calls/{call.id}", {"id": call.id, "type": "answer", "sdp": answer})

    async def create_call(self, request: web.Request) -> web.Response:
        """``POST /api/calls/outgoing``: the server offers."""
        if request.body_exists:
            await _read_object(request)
        call, offer = await self._server.create_call()
        return _created(f"/api/calls/{call.id}", {"id": call.id, "type": "offer", "sdp": offer})

    async def accept_answer(self, request: web.Request) -> web.Response:
        """``PUT /api/calls/{id}/answer``: the answer to the server's offer."""
        call = self._server.call(request.match_info["id"])
        answer = await _read_description(request, "answer")
        await self._server.accept_answer(call, answer)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def get_call(self, request: web.Request) -> web.Response:
        """``GET /api/calls/{id}``: state, security, statistics."""
        call = self._server.call(request.match_info["id"])
        return web.json_response(await describe_call(call))

    async def delete_call(self, request: web.Request) -> web.Response:
        """``DELETE /api/calls/{id}``: hang up."""
        call = self._server.call(request.match_info["id"])
        await call.close("The other side hung up.")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def start_recording(self, request: web.Request) -> web.Response:
        """``POST /api/calls/{id}/recording``: record the call from now on."""
        call = self._server.call(request.match_info["id"])
        try:
            recording = call.start_recording(self._server.recordings)
        except RecordingError as error:
            raise Problem(409, "The call cannot be recorded", str(error)) from error
        return _created(f"/api/recordings/{recording.name}", recording.describe())

    async def stop_recording(self, request: web.Request) -> web.Response:
        """``DELETE /api/calls/{id}/recording``: close the file; the response is its entry in the list."""
        recording = self._server.call(request.match_info["id"]).recording
        if recording is None:
            raise Problem(409, "The call is not being recorded", "Start a recording first.")
        try:
            return web.json_response(await recording.stop())
        except RecordingError as error:
            raise Problem(409, "There is no recording", str(error)) from error

    async def list_recordings(self, _: web.Request) -> web.Response:
        """``GET /api/recordings``: the finished ones, the newest first."""
        return web.json_response(await asyncio.to_thread(self._server.recordings.list))

    async def get_recording(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/recordings/{name}``: the file, or a part of it."""
        path = self._server.recordings.path(request.match_info["name"])
        if path is None:
            raise _no_recording()
        return web.FileResponse(path, headers={hdrs.CONTENT_TYPE: "video/webm"})

    async def delete_recording(self, request: web.Request) -> web.Response:
        """``DELETE /api/recordings/{name}``: take it away for good."""
        if not await asyncio.to_thread(self._server.recordings.delete, request.match_info["name"]):
            raise _no_recording()
        return web.Response(status=HTTPStatus.NO_CONTENT)


def _no_recording() -> Problem:
    return Problem(404, "No such recording", "There is no finished recording of that name.")


def _created(location: str, document: dict[str, Any]) -> web.Response:
    return web.json_response(document, status=HTTPStatus.CREATED, headers={hdrs.LOCATION: location})


async def _read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body.

    :raises Problem: when there is none.
    """
    if request.content_type != "application/json":
        raise Problem(415, "Wrong content type", "Send JSON with Content-Type: application/json.")
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise Problem(415, "Compressed body", "Send the JSON as it is, without Content-Encoding.")
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await request.read()
    except TimeoutError:
        raise Problem(
            408, "Too slow", f"The body did not arrive within {BODY_TIMEOUT:.0f} seconds."
        ) from None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "Not JSON", "The body is not JSON in UTF-8.") from None
    if not isinstance(document, dict):
        raise Problem(400, "Not an object", "The body must be a JSON object.")
    return document


async def _read_description(request: web.Request, kind: str) -> str:
    document = await _read_object(request)
    if document.get("type") != kind:
        raise Problem(400, f"Not an {kind}", f'The body must have "type": "{kind}".')
    sdp = document.get("sdp")
    if not isinstance(sdp, str) or not sdp:
        raise Problem(400, "No SDP", 'The body must have the session description as a string in "sdp".')
    return sdp


def _middleware(guard: Guard) -> Any:
    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        if isinstance(request.protocol, Connection):
            request.protocol.begin_request()
        try:
            guard.check(request)
            response = await handler(request)
        except Problem as problem:
            response = _problem_response(problem)
        except web.HTTPException as error:
            response = _problem_response(_from_http(error))
        except ConnectionError:
            raise  # the client is gone
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            response = _problem_response(
                Problem(500, "The server made a mistake", "It is not your doing. The server's log has more.")
            )
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault(
            hdrs.CACHE_CONTROL, "no-store" if request.path.startswith("/api/") else "no-cache"
        )
        return response

    return serve


def _from_http(error: web.HTTPException) -> Problem:
    """What aiohttp refuses by itself, in our words."""
    headers = {str(name): error.headers[name] for name in (hdrs.ALLOW,) if name in error.headers}
    details = {
        404: "There is nothing here. The page is at /, the API under /api/.",
        405: "The method is not allowed here; the Allow header has those that are.",
        413: f"A body may have {MAXIMUM_BODY // 1024} kB.",
    }
    return Problem(error.status, error.reason, details.get(error.status, error.text or error.reason), headers)


def _problem_response(problem: Problem) -> web.Response:
    return web.json_response(
        problem.document(),
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )
