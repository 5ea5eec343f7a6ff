"""Which candidates there are to use: ours that STUN and TURN servers see and lend (RFC 8445 §5.1.1), the peer's."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aioice import stun

from mediapeer.ice.addresses import LOOPBACK, host_addresses
from mediapeer.ice.bases import Base
from mediapeer.ice.candidate import Candidate, candidate_foundation, candidate_priority
from mediapeer.ice.full import FullIceAgent
from mediapeer.ice.mdns import is_hidden_name
from mediapeer.ice.mux import UdpMux
from mediapeer.ice.options import IceOptions, IceServer, ServerUrl
from mediapeer.ice.relay import Relay

logger = logging.getLogger(__name__)

#: Seconds that all servers together have to answer.
SERVER_TIMEOUT = 5.0

#: The peer's candidates with other types are of no use.
USABLE_TYPES = ("host", "srflx", "relay")

Address = tuple[str, int]


async def open_mux(options: IceOptions) -> UdpMux:
    """The sockets of host candidates, those that are shared or new ones.

    :raises OSError: when none of the addresses, or no port, can be used.
    """
    if options.mux is not None:
        return options.mux
    # Two transports in one process may call each other, or the same server: with ports of their own they can.
    if options.port == 0:
        return await UdpMux.open(host_addresses() if options.addresses is None else options.addresses, 0)
    return await UdpMux.shared(options.addresses, options.port)


def follow_addresses(mux: UdpMux, options: IceOptions) -> None:
    """See which addresses this machine has by now, before an ICE restart offers them.

    A mux that was given is left as it is.
    """
    if options.mux is not None:
        return
    addresses = host_addresses() if options.addresses is None else options.addresses
    # That there is none at all will not last, and nobody else can use the loopback one.
    if options.addresses is not None or list(addresses) != [LOOPBACK]:
        mux.follow(addresses)


async def ask_servers(
    agent: FullIceAgent, options: IceOptions, on_candidate: Callable[[Candidate], None]
) -> None:
    """Ask all servers at once, and tell candidates as they come; done when all have answered or time is up.

    A server that does not answer, or refuses, is logged and counted, and gives no candidate.
    """
    questions: list[Coroutine[Any, Any, None]] = []
    for url, server in options.server_addresses():
        if url.is_turn:
            questions.append(_relay(agent, options, url, server, on_candidate))
        else:
            questions.append(_reflect(agent, url, on_candidate))
    if not questions:
        return
    tasks = [asyncio.create_task(_counted(agent, question)) for question in questions]
    try:
        await asyncio.wait(tasks, timeout=SERVER_TIMEOUT)
    finally:
        late = [task for task in tasks if not task.done()]
        for task in late:
            task.cancel()
        if late:
            agent.counters["servers_without_answer"] += len(late)
            await asyncio.wait(late)


async def _counted(agent: FullIceAgent, question: Coroutine[Any, Any, None]) -> None:
    try:
        await question
    except (OSError, stun.TransactionError, ValueError, KeyError, AssertionError) as error:
        agent.counters["servers_failed"] += 1
        logger.warning(
            "a STUN or TURN server gave no candidate: %s: %s", type(error).__name__, error or "no reason"
        )


async def _reflect(agent: FullIceAgent, url: ServerUrl, on_candidate: Callable[[Candidate], None]) -> None:
    """Ask one STUN server from every socket of its families."""
    addresses = await _addresses_of(url)
    questions = []
    for base in agent.bases():
        version = ipaddress.ip_address(base.local_candidate.host).version
        if (
            not base.is_relay
            and version in addresses
            and not _is_loopback_to_elsewhere(base, addresses[version])
        ):
            questions.append(_ask_reflection(agent, base, url, addresses[version], on_candidate))
    results = await asyncio.gather(*questions, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _addresses_of(url: ServerUrl) -> dict[int, Address]:
    """A server's address by IP version."""
    try:
        return {ipaddress.ip_address(url.host).version: (str(ipaddress.ip_address(url.host)), url.port)}
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_DGRAM)
    addresses: dict[int, Address] = {}
    for family, _, _, _, sockaddr in found:
        addresses.setdefault(6 if family == socket.AF_INET6 else 4, (str(sockaddr[0]), url.port))
    return addresses


def _is_loopback_to_elsewhere(base: Base, server: Address) -> bool:
    """Whether a datagram from this base cannot get to the server: from loopback to anywhere else."""
    here = ipaddress.ip_address(base.local_candidate.host)
    return here.is_loopback and not ipaddress.ip_address(server[0]).is_loopback


async def _ask_reflection(
    agent: FullIceAgent,
    base: Base,
    url: ServerUrl,
    server: Address,
    on_candidate: Callable[[Candidate], None],
) -> None:
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    response, _ = await base.request(request, server)
    host, port = response.attributes["XOR-MAPPED-ADDRESS"]
    # One that is the base's own, or known from another server, tells the peer nothing (RFC 8445 §5.1.3).
    if (host, port) == (base.local_candidate.host, base.local_candidate.port):
        return
    if any((known.host, known.port) == (host, port) for known in agent.offered):
        return
    candidate = Candidate(
        foundation=candidate_foundation("srflx", base.local_candidate.host, server=f"{url.host}:{url.port}"),
        component=1,
        transport="udp",
        priority=candidate_priority("srflx", local_preference=base.candidate.priority >> 8 & 0xFFFF),
        host=host,
        port=port,
        type="srflx",
        related_address=base.local_candidate.host,
        related_port=base.local_candidate.port,
        extensions={"ufrag": agent.local_parameters.username_fragment},
    )
    agent.offered.append(candidate)
    on_candidate(candidate)


async def _relay(
    agent: FullIceAgent,
    options: IceOptions,
    url: ServerUrl,
    server: IceServer,
    on_candidate: Callable[[Candidate], None],
) -> None:
    """Ask one TURN server for an allocation."""
    told: list[Candidate] = []

    def make_base(relay: Relay) -> Base:
        host, port = relay.relayed_address
        related = relay.mapped_address
        if options.relay_only:
            # What a program does not want to tell is not told by this either (RFC 9429 §3.5.3, RFC 8839 §5.1).
            related = ("::" if ":" in host else "0.0.0.0", 9)  # noqa: S104
        candidate = Candidate(
            foundation=candidate_foundation(
                "relay", host, transport=url.transport, server=f"{url.host}:{url.port}"
            ),
            component=1,
            transport="udp",
            # Among relays, the fewer layers between us and the server the better.
            priority=candidate_priority("relay", local_preference=_relay_preference(url)),
            host=host,
            port=port,
            type="relay",
            related_address=related[0],
            related_port=related[1],
            extensions={"ufrag": agent.local_parameters.username_fragment},
        )
        told.append(candidate)
        return agent.add_relay(relay, candidate)

    await Relay.allocate(url, server, make_base, agent.counters)
    for candidate in told:
        on_candidate(candidate)


def _relay_preference(url: ServerUrl) -> int:
    return 65535 if url.transport == "udp" else 32768 if not url.tls else 0


def preferences(sockets: Sequence[object]) -> list[int]:
    """Local preferences for host candidates: the earlier an address stands in the list, the more it is preferred."""
    return [65535 - index for index in range(len(sockets))]


def reason_to_ignore(candidate: Candidate, options: IceOptions) -> str | None:
    """Why a candidate of the peer's cannot be used, as the name of a counter; ``None`` when it can."""
    if candidate.transport != "udp":
        return "tcp_candidates"
    if candidate.component != 1:
        return "candidates_of_other_components"
    if candidate.type not in USABLE_TYPES:
        return "candidates_of_unknown_type"
    if candidate.is_mdns:
        # A TURN server must not learn what hides behind the name, and nothing else could be sent from.
        usable = options.resolve_mdns and not options.relay_only and is_hidden_name(candidate.host)
        return None if usable else "mdns_candidates"
    if not candidate.is_ip:
        return "candidates_with_names"
    address = ipaddress.ip_address(candidate.host)
    if address.is_multicast or address.is_unspecified:
        return "candidates_of_no_host"
    return None
