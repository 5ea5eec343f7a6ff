"""The page's files: read once, and served under the names they have."""

import hashlib
import pathlib
from dataclasses import dataclass

from aiohttp import hdrs, web

_CONTENT_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Page:
    """A file as it is served."""

    content_type: str
    body: bytes

    async def serve(self, request: web.Request) -> web.Response:
        """The file, or 304 when the browser has it."""
        etag = hashlib.sha256(self.body).hexdigest()[:32]
        known = request.if_none_match or ()
        if any(tag.value == etag for tag in known):
            response = web.Response(status=304)
        else:
            response = web.Response(body=self.body, content_type=self.content_type, charset="utf-8")
        response.etag = etag
        response.headers[hdrs.CACHE_CONTROL] = "no-cache"
        return response


class Pages:
    """The files of the page, by path: ``/`` is ``index.html``."""

    def __init__(self, files: dict[str, Page]) -> None:
        self.files = files

    def add_routes(self, application: web.Application) -> None:
        """Serve each file; nothing that is not in the list can be asked for."""
        for path, page in self.files.items():
            application.router.add_get(path, page.serve)


def page_directory() -> pathlib.Path:
    """Where the files are: beside this module when installed, in ``web/`` of a checkout.

    :raises FileNotFoundError: when they are in neither place.
    """
    here = pathlib.Path(__file__).parent
    for directory in (here / "web", here.parent / "web"):
        if (directory / "index.html").is_file():
            return directory
    raise FileNotFoundError("the page's files (web/index.html and others) are not installed")


def load_pages() -> Pages:
    """Read the page's files.

    :raises FileNotFoundError: when they are not there.
    """
    directory = page_directory()
    files = {}
    for path in sorted(directory.rglob("*")):
        content_type = _CONTENT_TYPES.get(path.suffix)
        if content_type is not None and path.is_file():
            name = path.relative_to(directory).as_posix()
            files["/" if name == "index.html" else f"/{name}"] = Page(content_type, path.read_bytes())
    return Pages(files)
