"""Which of this machine's addresses to offer as host candidates (RFC 8445 §5.1.1.1)."""

import ipaddress
from collections.abc import Sequence

from aioice.ice import get_host_addresses

LOOPBACK = "127.0.0.1"


def check_addresses(addresses: Sequence[str]) -> list[str]:
    """The given addresses in canonical form.

    :raises ValueError: when one is not an IP address, or none is given.
    """
    if not addresses:
        raise ValueError("iceAddresses is empty: give addresses, or None for all of this machine's")
    try:
        return [str(ipaddress.ip_address(address)) for address in addresses]
    except ValueError as error:
        raise ValueError(f"iceAddresses: {error}") from None


def host_addresses() -> list[str]:
    """Every address of this machine but the loopback ones, or the loopback one when there is no other."""
    addresses = [
        address
        for address in get_host_addresses(use_ipv4=True, use_ipv6=True)
        if not ipaddress.ip_address(address).is_loopback
    ]
    return addresses or [LOOPBACK]
