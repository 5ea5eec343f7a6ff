"""What requests bring, and what is created by them, as JSON."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from signaling.errors import Problem

#: How long a client may take to send a body, in seconds.
BODY_TIMEOUT = 10.0


def created(location: str, document: dict[str, Any]) -> web.Response:
    """The response that something was made, and where it is."""
    return web.json_response(document, status=HTTPStatus.CREATED, headers={hdrs.LOCATION: location})


async def read_object(request: web.Request) -> dict[str, Any]:
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


async def read_description(request: web.Request, kind: str) -> str:
    """The SDP in the body.

    :param kind: ``offer`` or ``answer``.
    :raises Problem: when there is none.
    """
    document = await read_object(request)
    if document.get("type") != kind:
        raise Problem(400, f"Not an {kind}", f'The body must have "type": "{kind}".')
    sdp = document.get("sdp")
    if not isinstance(sdp, str) or not sdp:
        raise Problem(400, "No SDP", 'The body must have the session description as a string in "sdp".')
    return sdp
