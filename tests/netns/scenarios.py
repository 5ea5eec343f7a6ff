"""What happens to calls between hosts in namespaces, as a program.

``python -m tests.netns.scenarios OPTIONS REPORT``, in a sandbox (:mod:`tests.tools.sandbox`): OPTIONS is
``{"scenarios": [NAMES]}`` in JSON. They are played at the same time; for each, what it gives is written to the file
REPORT, or under ``failure`` why it came to nothing.
"""

import asyncio
import contextlib
import functools
import json
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from mediapeer.ice.lite import OUTAGE as LITE_OUTAGE
from tests.netns.call import Call, summary
from tests.netns.end import End
from tests.netns.hosts import Host, missing, refusal

#: Seconds that an outage lasts.
OUTAGE = 8.0
#: Seconds after something has happened in which a call has to get over it.
RECOVERY = 4.0
#: Seconds of a call in which nothing happens, before something does.
BEFORE = 2.5
#: Seconds until a lite agent knows how often its peer speaks, and so how much silence means something.
LITE_ACQUAINTANCE = LITE_OUTAGE + 0.5
#: How many scenarios are played at a time, and the seconds that each may take.
AT_A_TIME = 5
PATIENCE = 50.0

HOME, PUBLIC, MOBILE = "10.1.0", "203.0.113", "10.2.0"
REALM, USER, PASSWORD = "example.net", "user", "credential"

HAS_IPV6 = pathlib.Path("/proc/net/if_inet6").exists()

Hosts = dict[str, Host]
Play = Callable[[Hosts], Awaitable[dict[str, Any]]]

SCENARIOS: dict[str, tuple[tuple[str, ...], Play]] = {}


def scenario(*hosts: str, **variants: dict[str, Any]) -> Callable[[Callable[..., Awaitable[Any]]], None]:
    """Put a play on the list, once for each variant, with the hosts that it needs."""

    def register(play: Callable[..., Awaitable[Any]]) -> None:
        for suffix, options in variants.items():
            name = f"{play.__name__}_{suffix}"  # type: ignore[attr-defined]
            SCENARIOS[name] = (hosts, functools.partial(play, **options))

    return register


# Networks


async def forward(router: Host) -> None:
    """Let a host be a router."""
    for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        await router.set(setting, 1)


async def connect_to(router: Host, host: Host, network: str, *, device: str = "eth0", inside: str) -> None:
    """A network of a router and a host, which is 2 in it and has the router, 1 in it, for its way to all others."""
    await host.wire(device, router, inside)
    await router.ip(f"address add {network}.1/24 dev {inside}", f"link set {inside} up")
    await host.ip(
        f"address add {network}.2/24 dev {device}",
        f"link set {device} up",
    )


async def home_and_server(hosts: Hosts, *, is_nat: bool) -> None:
    """A caller at home, its router, and a server, which has no way to the caller's own address behind a NAT."""
    caller, router, server = hosts["caller"], hosts["router"], hosts["server"]
    await forward(router)
    await connect_to(router, caller, HOME, inside="home")
    await connect_to(router, server, PUBLIC, inside="outside")
    await caller.ip(f"route add default via {HOME}.1")
    if not is_nat:
        await server.ip(f"route add default via {PUBLIC}.1")


class KernelNat:
    """The router's NAT: a range of ports at its outside address."""

    def __init__(self, router: Host) -> None:
        self._router = router
        self._first_port = 20000

    async def begin(self) -> None:
        """Translate from now on."""
        run = self._router.run
        await run("nft add table ip nat")
        chain = "{ type nat hook postrouting priority 100 ; }"
        await run(f"nft add chain ip nat leaving {chain}")
        await self._masquerade()

    async def _masquerade(self) -> None:
        ports = f"{self._first_port}-{self._first_port + 999}"
        await self._router.run(
            f"nft add rule ip nat leaving oifname outside meta l4proto udp masquerade to :{ports}"
        )

    async def rebind_port(self) -> None:
        """Forget what belongs to whom, and use other ports."""
        self._first_port += 1000
        await self._router.run("nft flush chain ip nat leaving")
        await self._masquerade()
        # The kernel forgets the translations of a device that goes down.
        await self._router.ip("link set outside down", "link set outside up")

    async def rebind_address(self) -> None:
        """Get another outside address, as from a provider in the night."""
        await self._router.ip(
            f"address del {PUBLIC}.1/24 dev outside", f"address add {PUBLIC}.9/24 dev outside"
        )


class RelayNat:
    """A program in the place of the NAT, for systems without nftables: the caller takes the router for the server."""

    def __init__(self, router: Host, call: Call, server: Host) -> None:
        self._router, self._call, self._server = router, call, server

    async def begin(self) -> None:
        """Have the caller told of the relay instead of the server."""
        words = (await self._call.first_candidate(self._server)).split(" ")
        port = await self._router.call(
            "relay", inside=f"{HOME}.1", outside=f"{PUBLIC}.1", destination=[words[4], int(words[5])]
        )
        words[4:6] = [f"{HOME}.1", str(port)]
        self._call.tell_candidate(
            self._server, {"candidate": " ".join(words), "sdpMLineIndex": 0, "sdpMid": None}
        )

    async def rebind_port(self) -> None:
        """Have another outside port."""
        await self._router.call("rebind_relay")

    async def rebind_address(self) -> None:
        """Another port once more."""
        await self._router.call("rebind_relay")


# What happens


@scenario("caller", "router", "server", full={}, lite={"lite": True}, own_link={"own_link": True})
async def outage(hosts: Hosts, *, lite: bool = False, own_link: bool = False) -> dict[str, Any]:
    """For a while nothing gets through: the router's link to the caller is down, or the caller's own device."""
    caller, router, server = hosts["caller"], hosts["router"], hosts["server"]
    await home_and_server(hosts, is_nat=False)
    call = Call(caller, server)
    await caller.call("open")
    await server.call("open", iceLite=lite)
    await call.connect()
    await asyncio.sleep(LITE_ACQUAINTANCE if lite else BEFORE)
    since = time.monotonic()
    await (caller.ip("link set eth0 down") if own_link else router.ip("link set home down"))
    await asyncio.sleep(OUTAGE)
    await (
        caller.ip("link set eth0 up", f"route add default via {HOME}.1")
        if own_link
        else router.ip("link set home up")
    )
    returned = time.monotonic()
    await call.state("connected", seconds=RECOVERY)
    connected = time.monotonic()
    await call.flows()
    flowing = time.monotonic()
    windows = {"outage": (since, flowing)}
    result = summary(await call.end(), windows)
    return result | {"seconds": {"connected": connected - returned, "flowing": flowing - returned}}


@scenario(
    "caller",
    "router",
    "server",
    full={},
    lite={"lite": True},
    full_called={"server_offers": True},
    relay={"kernel": False},
)
async def rebinding(
    hosts: Hosts, *, lite: bool = False, server_offers: bool = False, kernel: bool = True
) -> dict[str, Any]:
    """A NAT gives the caller another port, then another address."""
    caller, router, server = hosts["caller"], hosts["router"], hosts["server"]
    if kernel and (reason := missing("nft")):
        return {"skipped": reason}
    await home_and_server(hosts, is_nat=True)
    ends = (server, caller) if server_offers else (caller, server)
    nat: KernelNat | RelayNat
    if kernel:
        call = Call(*ends)
        nat = KernelNat(router)
        try:
            await nat.begin()
        except RuntimeError as error:
            return {"skipped": f"needs a NAT in the kernel: {error}"}
    else:
        call = Call(*ends, candidates=[])
        nat = RelayNat(router, call, server)
    await caller.call("open")
    await server.call("open", iceLite=lite)
    connecting = asyncio.create_task(call.connect())
    if not kernel:
        await nat.begin()
    await connecting
    windows = {}
    for name, rebind in (("port", nat.rebind_port), ("address", nat.rebind_address)):
        await asyncio.sleep(BEFORE)
        since = time.monotonic()
        await rebind()
        await asyncio.sleep(RECOVERY)
        windows[name] = (since, time.monotonic())
    return summary(await call.end(), windows)


@scenario(
    "caller",
    "router",
    "server",
    both_known={},
    both_known_lite={"lite": True},
    server_offers={"server_offers": True},
    restart={"restart": True},
    restart_lite={"lite": True, "restart": True},
)
async def address_change(
    hosts: Hosts, *, lite: bool = False, restart: bool = False, server_offers: bool = False
) -> dict[str, Any]:
    """The caller leaves the network at home for the mobile one, which was there before or only comes up now."""
    caller, router, server = hosts["caller"], hosts["router"], hosts["server"]
    await home_and_server(hosts, is_nat=False)

    async def go_mobile() -> None:
        await connect_to(router, caller, MOBILE, device="eth1", inside="mobile")
        await caller.ip(f"route add {PUBLIC}.0/24 via {MOBILE}.1 src {MOBILE}.2 table 2")
        await caller.ip(f"rule add from {MOBILE}.2 table 2")

    if not restart:
        await go_mobile()
    call = Call(server, caller) if server_offers else Call(caller, server)
    await caller.call("open")
    await server.call("open", iceLite=lite)
    await call.connect()
    await asyncio.sleep(BEFORE)
    if restart:
        await go_mobile()
    since = time.monotonic()
    await caller.ip("link del eth0")
    if restart:
        await caller.ip(f"route add default via {MOBILE}.1")
        await call.negotiate(caller, restart=True)
    await asyncio.sleep(RECOVERY)
    return summary(await call.end(), {"change": (since, time.monotonic())})


@scenario("caller", "router", "server", full={}, lite={"lite": True})
async def restart(hosts: Hosts, *, lite: bool = False) -> dict[str, Any]:
    """Either side restarts ICE while all flows."""
    caller, server = hosts["caller"], hosts["server"]
    await home_and_server(hosts, is_nat=False)
    call = Call(caller, server)
    await caller.call("open")
    await server.call("open", iceLite=lite)
    await call.connect()
    windows = {}
    for end in (caller, server, server, caller):
        await asyncio.sleep(BEFORE / 2)
        since = time.monotonic()
        await call.negotiate(end, restart=True)
        await asyncio.sleep(RECOVERY / 2)
        windows[f"{len(windows)} {end.name}"] = (since, time.monotonic())
    return summary(await call.end(), windows)


@scenario("caller", "router", "server", only={}, only_lite={"lite": True})
async def ipv6(hosts: Hosts, *, lite: bool = False) -> dict[str, Any]:
    """There is no IPv4."""
    caller, router, server = hosts["caller"], hosts["router"], hosts["server"]
    if not HAS_IPV6:
        return {"skipped": "needs IPv6"}
    await forward(router)
    for host, network, inside in ((caller, "2001:db8:1", "home"), (server, "2001:db8:2", "outside")):
        await host.wire("eth0", router, inside)
        await router.ip(f"address add {network}::1/64 dev {inside} nodad", f"link set {inside} up")
        await host.ip(
            f"address add {network}::2/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {network}::1",
        )
    call = Call(caller, server)
    await caller.call("open")
    await server.call("open", iceLite=lite)
    since = time.monotonic()
    await call.connect()
    flowing = time.monotonic()
    await asyncio.sleep(BEFORE)
    result = summary(await call.end(), {"call": (flowing, time.monotonic())})
    return result | {"seconds": {"flowing": flowing - since}}


@scenario("caller", "router", "server", udp={"transport": "udp"}, tcp={"transport": "tcp"})
async def relay_only(hosts: Hosts, *, transport: str) -> dict[str, Any]:
    """The caller tells of nothing but its address on a TURN server, which is on the router."""
    caller, router, server = hosts["caller"], hosts["router"], hosts["server"]
    if reason := missing("turnserver"):
        return {"skipped": reason}
    await home_and_server(hosts, is_nat=True)
    await router.call(
        "spawn",
        argv=[
            *("turnserver", "-n", "--lt-cred-mech", "--user", f"{USER}:{PASSWORD}", "--realm", REALM),
            *(
                "--listening-ip",
                f"{HOME}.1",
                "--relay-ip",
                f"{PUBLIC}.1",
                "--no-cli",
                "--no-tls",
                "--no-dtls",
            ),
            *("--log-file", "stdout", "--simple-log", "--pidfile", ""),
        ],
    )
    await router.call("wait_for_port", host=f"{HOME}.1", port=3478)
    call = Call(caller, server)
    url = f"turn:{HOME}.1:3478?transport={transport}"
    servers = [{"urls": url, "username": USER, "credential": PASSWORD}]
    await caller.call("open", relay_only=True, servers=servers)
    await server.call("open")
    since = time.monotonic()
    await call.connect()
    flowing = time.monotonic()
    await asyncio.sleep(BEFORE)
    await call.negotiate(server, restart=True)
    await asyncio.sleep(RECOVERY / 2)
    result = summary(await call.end(), {"call": (flowing, time.monotonic())})
    return result | {"seconds": {"flowing": flowing - since}, "told": call.candidates[caller]}


# The program


async def play_all(chosen: dict[str, Hosts]) -> dict[str, Any]:
    """Play scenarios, some at the same time."""
    turns = asyncio.Semaphore(AT_A_TIME)
    reason = await refusal()

    async def play(name: str, hosts: Hosts) -> dict[str, Any]:
        if reason is not None:
            return {"skipped": reason}
        try:
            for host in hosts.values():
                await host.attach()
            async with turns, asyncio.timeout(PATIENCE):
                started = time.monotonic()
                result = await SCENARIOS[name][1](hosts)
                result["duration"] = time.monotonic() - started
        except Exception as error:
            return {"failure": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"}
        finally:
            await asyncio.gather(*(host.close() for host in hosts.values()))
        return result

    results = await asyncio.gather(*(play(name, hosts) for name, hosts in chosen.items()))
    return dict(zip(chosen, results, strict=True))


def main() -> None:
    """Fork the hosts, play, and report."""
    # Real time is looked at: where we may, we do not give way to others as the tests that do not may have to.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    options = json.loads(sys.argv[1])
    chosen = {name: {host: Host(host, End) for host in SCENARIOS[name][0]} for name in options["scenarios"]}
    report = asyncio.run(play_all(chosen), debug=False)
    pathlib.Path(sys.argv[2]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
