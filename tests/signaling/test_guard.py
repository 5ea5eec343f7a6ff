"""Which requests are served, and what goes with every response."""

import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from signaling import Guard
from tests.signaling.support import OFFER, new_server, serving

Client = TestClient[Any, Any]
EVERYWHERE = "0.0.0.0"  # noqa: S104  nothing listens there in these tests


@pytest.fixture
async def client(tmp_path: pathlib.Path) -> AsyncIterator[Client]:
    async with serving(new_server(tmp_path)) as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "[::1]:{}", "LOCALHOST:{}", "localhost"])
async def test_loopback_names_are_served(client: Client, host: str) -> None:
    response = await client.get("/", headers={"Host": host.format(client.port)})
    assert response.status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{}", "127.0.0.1.evil.example", "10.0.0.1", "", "a b", "localhost@evil"],
)
async def test_another_name_is_not_served(client: Client, host: str) -> None:
    """A stranger's page can make its own name resolve to this machine."""
    for path in ("/", "/api/recordings"):
        response = await client.get(path, headers={"Host": host.format(client.port)})
        assert response.status in (400, 403)
        if response.status == 403:
            assert "Host header" in (await response.json())["detail"]


@pytest.mark.parametrize(
    ("listening", "host", "served"),
    [
        (EVERYWHERE, "192.0.2.7:8080", True),
        (EVERYWHERE, "[2001:db8::7]:8080", True),
        (EVERYWHERE, "evil.example:8080", False),
        (EVERYWHERE, "call.example", True),
        ("192.0.2.7", "192.0.2.7:8080", True),
        ("127.0.0.1", "192.0.2.7:8080", False),
        ("127.0.0.1", "call.example", True),
    ],
)
async def test_beyond_loopback_addresses_and_named_hosts_are_served(
    tmp_path: pathlib.Path, listening: str, host: str, served: bool
) -> None:
    guard = Guard(listening, ["call.example"])
    async with serving(new_server(tmp_path), guard) as client:
        response = await client.get("/api/recordings", headers={"Host": host})
        assert (response.status == 200) is served


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},
        {"Origin": "http://127.0.0.1@evil.example"},
        {"Origin": "file:///"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_from_elsewhere_changes_nothing(client: Client, headers: dict[str, str]) -> None:
    for response in (
        await client.post("/api/calls", json={"type": "offer", "sdp": OFFER}, headers=headers),
        await client.post("/api/calls/outgoing", headers=headers),
        await client.delete("/api/recordings/x.webm", headers=headers),
    ):
        assert response.status == 403
        assert "another origin" in (await response.json())["detail"]


async def test_the_server_s_own_page_may(client: Client) -> None:
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec-Fetch-Site": "same-origin"}
    response = await client.post("/api/calls", json={"type": "offer", "sdp": OFFER}, headers=own)
    assert response.status == 201


@pytest.mark.parametrize("path", ["/", "/js/app.js", "/api/recordings", "/nothing"])
async def test_every_response_has_the_security_headers(client: Client, path: str) -> None:
    response = await client.get(path)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_the_page_asks_nobody_else_for_anything(client: Client) -> None:
    for path in ("/", "/style.css", "/js/app.js"):
        text = (await (await client.get(path)).text()).replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text
        assert "//" not in text.replace("// ", "").replace("http://127.0.0.1", "").replace(
            "http://localhost", ""
        )


async def test_a_file_of_the_page_is_sent_once(client: Client) -> None:
    first = await client.get("/style.css")
    assert first.content_type == "text/css"
    again = await client.get("/style.css", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
