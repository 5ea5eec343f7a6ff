"""``import mediapeer as aiortc`` works."""

import inspect
import subprocess
import sys

import aiortc
import pytest

import mediapeer


def test_every_public_name_of_aiortc_is_here() -> None:
    assert [name for name in aiortc.__all__ if not hasattr(mediapeer, name)] == []
    assert set(aiortc.__all__) <= set(mediapeer.__all__)
    assert mediapeer.MediaStreamTrack is aiortc.MediaStreamTrack


def test_the_classes_that_are_ours_are_ours() -> None:
    for name in ("RTCPeerConnection", "RTCConfiguration", "RTCDtlsTransport", "RTCIceGatherer"):
        assert getattr(mediapeer, name).__module__.startswith("mediapeer.")
    assert not issubclass(mediapeer.RTCPeerConnection, aiortc.RTCPeerConnection)


def test_the_connection_has_what_programs_for_aiortc_use() -> None:
    public = {name for name in dir(aiortc.RTCPeerConnection) if not name.startswith("_")}
    assert public <= set(dir(mediapeer.RTCPeerConnection))
    for name in public:
        theirs, ours = (getattr(each.RTCPeerConnection, name) for each in (aiortc, mediapeer))
        if inspect.isfunction(theirs):
            taken = list(inspect.signature(ours).parameters)
            assert taken[: len(inspect.signature(theirs).parameters)] == list(
                inspect.signature(theirs).parameters
            )
            assert inspect.iscoroutinefunction(ours) is inspect.iscoroutinefunction(theirs), name


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="RTCTeapot"):
        mediapeer.RTCTeapot  # noqa: B018


def test_the_engine_alone_loads_neither_aiortc_nor_pyav() -> None:
    code = "import sys, mediapeer.dtls; print(sorted({'aiortc', 'av', 'aioice', 'pylibsrtp'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_changes_nothing_in_aiortc() -> None:
    code = """
import aiortc, aioice.ice, aiortc.rtcpeerconnection as module
classes = (module.RTCDtlsTransport, module.RTCIceGatherer, module.RTCIceTransport, aioice.ice.Connection)
before = [dict(vars(c)) for c in classes] + [dict(vars(module)), dict(vars(aioice.ice))]
import mediapeer
mediapeer.RTCPeerConnection
after = [dict(vars(c)) for c in classes] + [dict(vars(module)), dict(vars(aioice.ice))]
print(before == after)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"
