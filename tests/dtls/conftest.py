"""What the engine's tests share."""

import pytest

from mediapeer.dtls import ProtocolVersion
from tests.dtls import support


@pytest.fixture(params=[ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3], ids=lambda version: version.name)
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProtocolVersion:
    """Runs a test once with each version as the newest that both ends speak."""
    chosen: ProtocolVersion = request.param
    monkeypatch.setattr(support, "maximum_version", chosen)
    return chosen
