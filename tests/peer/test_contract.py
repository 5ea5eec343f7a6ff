"""What of aiortc's private parts the peer connection stands on, pinned to the release it was written for.

When one of these fails after an update of aiortc, its call sites have changed: read what they are now, adapt
``mediapeer/peer`` and ``mediapeer/transport``, then change the expectation here.
"""

import ast
import importlib.metadata
import inspect
import textwrap
from types import ModuleType
from typing import Any

import aioice
import aiortc
import pytest
from aiortc import (
    rtcdtlstransport,
    rtcsctptransport,
)
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from mediapeer.peer import release
from mediapeer.peer.receiver import RTCRtpReceiver
from mediapeer.peer.sender import RTCRtpSender
from mediapeer.transport import DtlsTransport
from tests.transport.paths import PathEnd

ADVICE = "aiortc's call sites changed: see the docstring of tests/peer/test_contract.py"

#: What each module of aiortc uses of a DTLS transport.
USED_OF_A_TRANSPORT = {
    rtcsctptransport: {
        "_register_data_receiver", "_role", "_send_data", "_unregister_data_receiver", "state",
    },
}  # fmt: skip


def attributes_of_transports(source: str) -> set[str]:
    """The attributes that are used of what is called a (DTLS) transport."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
        if name in ("transport", "__transport", "dtlsTransport"):
            used.add(node.attr)
    return used


def test_the_release_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("aiortc").startswith(release.AIORTC_RELEASE + "."), ADVICE


@pytest.mark.parametrize("module", USED_OF_A_TRANSPORT, ids=lambda module: module.__name__)
def test_aiortc_uses_of_a_transport_what_ours_has(module: ModuleType) -> None:
    used = attributes_of_transports(inspect.getsource(module))
    # The ICE transport below is reached through ".transport.transport"; these are its attributes.
    used -= {"_connection", "_role_set", "addRemoteCandidate", "iceGatherer"}
    assert used == USED_OF_A_TRANSPORT[module], ADVICE


def test_our_transport_has_all_of_it() -> None:
    transport = DtlsTransport(PathEnd("controlling"), [aiortc.RTCCertificate.generateCertificate()])
    for used in USED_OF_A_TRANSPORT.values():
        assert [name for name in sorted(used) if not hasattr(transport, name)] == []
    assert hash(transport)


def test_receivers_and_senders_are_our_own() -> None:
    assert not issubclass(RTCRtpReceiver, aiortc.RTCRtpReceiver)
    assert not issubclass(RTCRtpSender, aiortc.RTCRtpSender)


@pytest.mark.parametrize("name", ["opus", "G722", "PCMU", "PCMA", "VP8", "H264"])
def test_decoders_of_aiortc_take_what_we_give_and_let_their_codecs_be_set_up(name: str) -> None:
    kind, clock_rate = ("video", 90000) if name in ("VP8", "H264") else ("audio", 8000)
    decoder: Any = get_decoder(RTCRtpCodecParameters(f"{kind}/{name}", clock_rate))
    decoder.codec.thread_count = 1
    decoder.codec.options = {"max_pixels": "1000000"}
    assert list(inspect.signature(decoder.decode).parameters) == ["encoded_frame"], ADVICE
    assert list(inspect.signature(JitterFrame).parameters) == ["data", "timestamp"], ADVICE
    used = {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(decoder.decode))))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "encoded_frame"
    }
    assert used == {"data", "timestamp"}, ADVICE


def test_the_parts_of_aioice_that_we_build_on_are_there() -> None:
    """``mediapeer/ice`` overrides or calls these methods of aioice's connection, and calls this function."""
    methods = {
        "_check_list_maybe_fail": ["self"],
        "_check_periodic": ["self"],
        "_remote_candidates_expected": ["self"],
        "_valid_username": ["self", "username"],
        "add_remote_candidate": ["self", "remote_candidate"],
        "build_request": ["self", "pair", "nominate"],
        "close": ["self"],
        "data_received": ["self", "data", "component"],
        "get_component_candidates": ["self", "component", "addresses", "timeout"],
        "query_consent": ["self"],
        "request_received": ["self", "message", "addr", "protocol"],
    }
    for name, parameters in methods.items():
        method = getattr(aioice.ice.Connection, name, None)
        assert callable(method), f"{name}: {ADVICE}"
        assert list(inspect.signature(method).parameters) == parameters, f"{name}: {ADVICE}"
    asks_stun = inspect.signature(aioice.ice.server_reflexive_candidate)
    assert list(asks_stun.parameters) == ["protocol", "stun_server"], ADVICE
    agent = aioice.Connection(ice_controlling=True)
    for name in ("_nominated", "_check_list", "_queue", "_protocols", "_remote_candidates", "_closing"):
        assert hasattr(agent, name), f"{name}: {ADVICE}"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (rtcsctptransport.RTCSctpTransport._handle_data, ["self", "data"]),
        (rtcdtlstransport.RTCCertificate.__init__, ["self", "key", "cert"]),
        (rtcdtlstransport.RtpRouter.register_receiver, ["self", "receiver", "ssrcs", "payload_types", "mid"]),
        (rtcdtlstransport.RtpRouter.route_rtp, ["self", "packet"]),
        (rtcdtlstransport.RtpRouter.route_rtcp, ["self", "packet"]),
    ],
)
def test_what_we_call_takes_what_we_give(function: object, parameters: list[str]) -> None:
    assert callable(function)
    assert list(inspect.signature(function).parameters) == parameters, ADVICE


def test_another_release_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1.15.0", "1.160.0", "2.0.0"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        with pytest.raises(ImportError, match=r'aiortc .* is installed.*pip install "aiortc==1\.16\.\*"'):
            release.check_aiortc()
    for version in ("1.16", "1.16.3"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        release.check_aiortc()
