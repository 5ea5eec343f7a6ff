"""A page from loopback, which browsers take for a secure context: it may use the camera."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from tests.tools.relay import LOOPBACK


@contextlib.asynccontextmanager
async def serve_page(title: str) -> AsyncIterator[str]:
    """Serve a page with nothing on it, and give its address."""

    async def answer(request: web.Request) -> web.Response:
        text = f"<!doctype html><meta charset=utf-8><title>{title}</title>"
        return web.Response(text=text, content_type="text/html")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
