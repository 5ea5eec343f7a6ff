"""The server's HTTP face: the JSON API, the recordings and the page."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from signaling.bodies import created, read_description, read_object
from signaling.connections import Connection
from signaling.errors import Problem
from signaling.guard import SECURITY_HEADERS, Guard
from signaling.pages import load_pages
from signaling.recording_api import RecordingApi
from signaling.server import SignalingServer
from signaling.status import describe_call

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The longest body of a request, in bytes.
MAXIMUM_BODY = 65_536


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
            *RecordingApi(server).routes(),
        ]
    )
    load_pages().add_routes(application)

    async def close(_: web.Application) -> None:
        await server.close()

    application.on_shutdown.append(close)
    return application


class Api:
    """The handlers of what concerns calls; those of recordings are in :class:`RecordingApi`."""

    def __init__(self, server: SignalingServer) -> None:
        self._server = server

    async def answer_call(self, request: web.Request) -> web.Response:
        """``POST /api/calls``: an offer in, an answer out."""
        offer = await read_description(request, "offer")
        call, answer = await self._server.answer_call(offer)
        return created(f"/api/calls/{call.id}", {"id": call.id, "type": "answer", "sdp": answer})

    async def create_call(self, request: web.Request) -> web.Response:
        """``POST /api/calls/outgoing``: the server offers."""
        if request.body_exists:
            await read_object(request)
        call, offer = await self._server.create_call()
        return created(f"/api/calls/{call.id}", {"id": call.id, "type": "offer", "sdp": offer})

    async def accept_answer(self, request: web.Request) -> web.Response:
        """``PUT /api/calls/{id}/answer``: the answer to the server's offer."""
        call = self._server.call(request.match_info["id"])
        answer = await read_description(request, "answer")
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
