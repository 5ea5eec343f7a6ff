"""The part of the API that has to do with recordings."""

import asyncio
import dataclasses
import pathlib
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from mediapeer.media import RecordingError, RecordingOptions
from mediapeer.media.catalog import CatalogError
from mediapeer.media.repair import RepairError
from signaling.bodies import created, read_object
from signaling.errors import Problem
from signaling.server import SignalingServer

#: What a client may choose, with the option that it sets and the least that it may be.
_NUMBERS: dict[str, tuple[str, float]] = {
    "segmentDuration": ("segment_duration", 1),
    "segmentSize": ("segment_size", 100_000),
    "maximumDuration": ("maximum_duration", 1),
    "maximumSize": ("maximum_size", 100_000),
}
_TEXTS = {"container": "container", "layout": "layout"}
_SWITCHES = {"transcode": "transcode", "skipUntilKeyframe": "skip_until_keyframe"}
_CHANNELS = "dataChannels"


class RecordingApi:
    """The handlers of what concerns recordings."""

    def __init__(self, server: SignalingServer) -> None:
        self._server = server
        self._store = server.recordings

    def routes(self) -> list[web.RouteDef]:
        """Which request goes where."""
        one = "/api/recordings/{name}"
        return [
            web.post("/api/calls/{id}/recording", self.start_recording),
            web.delete("/api/calls/{id}/recording", self.stop_recording),
            web.get("/api/recordings", self.list_recordings),
            web.get(one, self.get_recording),
            web.get(one + r"/parts/{number:[0-9]{1,4}}", self.get_part),
            web.get(one + "/thumbnail", self.get_thumbnail),
            web.get(one + "/manifest", self.get_manifest),
            web.get(one + "/data", self.get_data),
            web.post(one + "/repair", self.repair_recording),
            web.delete(one, self.delete_recording),
        ]

    async def start_recording(self, request: web.Request) -> web.Response:
        """``POST /api/calls/{id}/recording``: record the call from now on, as the body says, if there is one."""
        call = self._server.call(request.match_info["id"])
        document = await read_object(request) if request.body_exists else {}
        options, channels = read_options(document, self._store.options)
        try:
            recording = call.start_recording(self._store, options, channels=channels)
        except RecordingError as error:
            raise Problem(409, "The call cannot be recorded", str(error)) from error
        return created(f"/api/recordings/{recording.name}", recording.describe())

    async def stop_recording(self, request: web.Request) -> web.Response:
        """``DELETE /api/calls/{id}/recording``: close the files; the response is the entry in the list."""
        recording = self._server.call(request.match_info["id"]).recording
        if recording is None:
            raise Problem(409, "The call is not being recorded", "Start a recording first.")
        try:
            return web.json_response(await recording.stop())
        except RecordingError as error:
            raise Problem(409, "There is no recording", str(error)) from error

    async def list_recordings(self, _: web.Request) -> web.Response:
        """``GET /api/recordings``: all of them, the newest first."""
        return web.json_response(await asyncio.to_thread(self._store.list))

    async def get_recording(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/recordings/{name}``: the file, or a part of it; the first, when there are several."""
        return await self._send_part(request.match_info["name"], 1)

    async def get_part(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/recordings/{name}/parts/{number}``: one of several files, counted from 1."""
        return await self._send_part(request.match_info["name"], int(request.match_info["number"]))

    async def get_thumbnail(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/recordings/{name}/thumbnail``: a PNG."""
        picture = await self._store.thumbnail(request.match_info["name"])
        if picture is None:
            raise Problem(404, "No picture", "There is no picture of a recording of that name.")
        if isinstance(picture, bytes):
            return web.Response(body=picture, content_type="image/png")
        return _file(picture, "image/png")

    async def get_manifest(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/recordings/{name}/manifest``: what the recording is, with its gaps and what was lost."""
        path = await asyncio.to_thread(self._store.manifest_path, request.match_info["name"])
        if path is None:
            raise _no_recording()
        return _file(path, "application/json")

    async def get_data(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/recordings/{name}/data``: the data channels' messages, as JSON lines."""
        path = await asyncio.to_thread(self._store.data_path, request.match_info["name"])
        if path is None:
            raise Problem(404, "No messages", "No messages were recorded under that name.")
        return _file(path, "application/jsonl")

    async def repair_recording(self, request: web.Request) -> web.Response:
        """``POST /api/recordings/{name}/repair``: make whole what a crash left; the response is its entry."""
        name = request.match_info["name"]
        if await asyncio.to_thread(self._store.describe, name) is None:
            raise _no_recording()
        try:
            return web.json_response(await self._store.repair(name))
        except RepairError as error:
            raise Problem(409, "The recording cannot be repaired", str(error)) from error

    async def delete_recording(self, request: web.Request) -> web.Response:
        """``DELETE /api/recordings/{name}``: take it away for good, with all that belongs to it."""
        try:
            is_deleted = await asyncio.to_thread(self._store.delete, request.match_info["name"])
        except CatalogError as error:
            raise Problem(409, "The recording cannot be deleted", str(error)) from error
        if not is_deleted:
            raise _no_recording()
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _send_part(self, name: str, number: int) -> web.StreamResponse:
        segment = await asyncio.to_thread(self._store.segment, name, number)
        if segment is None:
            raise _no_recording()
        return _file(segment.path, segment.media_type)


def read_options(document: dict[str, Any], defaults: RecordingOptions) -> tuple[RecordingOptions, bool]:
    """The options for a recording that a client sent, and whether data channels are recorded too.

    What guards the server, such as the room to leave on the disk, is not for the client to choose.

    :raises Problem: when there is an option that is not known, or a value that cannot be.
    """
    changes: dict[str, Any] = {}
    for name, value in document.items():
        if name in _NUMBERS:
            option, least = _NUMBERS[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e15:
                raise _bad_option(f"{name} must be a number of {least:,.0f} or more.")
            changes[option] = int(value) if "size" in option else float(value)
        elif name in _TEXTS:
            if not isinstance(value, str):
                raise _bad_option(f"{name} must be a text.")
            changes[_TEXTS[name]] = value
        elif name in _SWITCHES or name == _CHANNELS:
            if not isinstance(value, bool):
                raise _bad_option(f"{name} must be true or false.")
            if name != _CHANNELS:
                changes[_SWITCHES[name]] = value
        else:
            known = ", ".join(sorted([*_NUMBERS, *_TEXTS, *_SWITCHES, _CHANNELS]))
            raise _bad_option(f"There is no option {name[:40]!r}. There are {known}.")
    try:
        return dataclasses.replace(defaults, **changes), document.get(_CHANNELS) is True
    except ValueError as error:
        raise _bad_option(str(error)) from error


def _bad_option(detail: str) -> Problem:
    return Problem(400, "An option cannot be used", detail)


def _no_recording() -> Problem:
    return Problem(404, "No such recording", "There is no finished recording of that name.")


def _file(path: pathlib.Path, media_type: str) -> web.FileResponse:
    return web.FileResponse(
        path,
        headers={
            hdrs.CONTENT_TYPE: media_type,
            # The names of a catalog's files need no quoting.
            hdrs.CONTENT_DISPOSITION: f'inline; filename="{path.name}"',
        },
    )
