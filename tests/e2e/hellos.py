"""What the browsers offer in their ClientHellos, seen where the server chooses a version."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from mediapeer.dtls import DtlsConfiguration, ProtocolVersion, extensions, server_hello
from mediapeer.dtls.messages import ClientHello
from mediapeer.dtls.registry import ExtensionType, NamedGroup

ChooseVersion = Callable[[DtlsConfiguration, ClientHello], ProtocolVersion]


@contextlib.contextmanager
def watched() -> Iterator[list[dict[str, Any]]]:
    """While it lasts, describe each ClientHello that comes to a server of this process."""
    seen: list[dict[str, Any]] = []
    choose: ChooseVersion = server_hello.choose_version

    def choose_version(configuration: DtlsConfiguration, hello: ClientHello) -> ProtocolVersion:
        seen.append(describe(hello))
        return choose(configuration, hello)

    with mock.patch.object(server_hello, "choose_version", choose_version):
        yield seen


def describe(hello: ClientHello) -> dict[str, Any]:
    """Its versions, groups and key shares in the order of the message; the shares with their sizes in bytes."""
    versions = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    groups = hello.extensions.get(ExtensionType.SUPPORTED_GROUPS)
    shares = hello.extensions.get(ExtensionType.KEY_SHARE)
    return {
        "versions": [f"{number:X}" for number in extensions.parse_supported_versions(versions)]
        if versions
        else [f"{hello.client_version:X}"],
        "groups": [_name(group) for group in extensions.parse_uint16_list(groups)] if groups else [],
        "shares": [
            [_name(group), len(share)] for group, share in extensions.parse_client_shares(shares).items()
        ]
        if shares
        else [],
    }


def _name(group: int) -> str:
    """As people write it; in hexadecimal when it is not known here, as those are that only keep us honest."""
    try:
        return NamedGroup(group).label
    except ValueError:
        return f"{group:#06x}"
