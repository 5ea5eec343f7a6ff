"""Memory of an established connection, in DTLS 1.2 and 1.3, beside OpenSSL's 1.2.

What Python allocates and what OpenSSL does are counted alike: by the growth of the resident memory of a fresh
process that makes associations and keeps both ends, divided by the number of ends. Some are made and kept
beforehand, so that what is there once, and the room that a handshake needs for a while, are not counted.
"""

import concurrent.futures
import functools
import gc
import multiprocessing
import pathlib
import resource
from collections.abc import Callable
from typing import TypeVar

from benchmarks import Comparison, Figures, Result
from benchmarks.handshake import (
    OPENSSL,
    SUITES,
    openssl_configuration,
    openssl_handshake,
    our_configuration,
    our_handshake,
)
from mediapeer.dtls import NamedGroup, ProtocolVersion

Measured = TypeVar("Measured")

_PAIRS = 3
_BEFOREHAND = 100
_ASSOCIATIONS = 300
_METRIC = "resident memory of each end"
_TARGET = 40.0
_CASES = (
    (ProtocolVersion.DTLS_1_2, NamedGroup.X25519),
    (ProtocolVersion.DTLS_1_3, NamedGroup.X25519),
    (ProtocolVersion.DTLS_1_3, NamedGroup.X25519MLKEM768),
)


def resident_bytes() -> int:
    """The resident memory of this process, which Linux gives in pages."""
    gc.collect()
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def growth(associate: Callable[[], object]) -> float:
    """The kilobytes by which each end of an association makes this process grow.

    :param associate: makes both ends.
    """
    kept = [associate() for _ in range(_BEFOREHAND)]
    before = resident_bytes()
    kept += [associate() for _ in range(_ASSOCIATIONS)]
    return (resident_bytes() - before) / (2 * _ASSOCIATIONS) / 1000


def our_growth(version: ProtocolVersion, group: NamedGroup) -> float:
    """:func:`growth` by associations of ours."""
    configuration = our_configuration(SUITES[version], group)
    return growth(lambda: our_handshake(configuration, configuration))


def openssl_growth() -> float:
    """:func:`growth` by associations of OpenSSL's."""
    context = openssl_configuration(SUITES[ProtocolVersion.DTLS_1_2])
    return growth(lambda: openssl_handshake(context, context))


def in_process_of_its_own(measure: Callable[[], Measured]) -> Measured:
    """Measure where nothing has been allocated and freed before."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(measure).result()


def in_fresh_process(measure: Callable[[], float]) -> Figures:
    """The same for the memory of an end."""
    return {_METRIC: in_process_of_its_own(measure)}


def run() -> list[Result]:
    """Measure each version with X25519, and DTLS 1.3 with X25519MLKEM768 too."""
    results = []
    for version, group in _CASES:
        results += Comparison(
            case=f"{version.label}, {group.label}",
            unit="kB",
            ours=functools.partial(in_fresh_process, functools.partial(our_growth, version, group)),
            peer=functools.partial(in_fresh_process, openssl_growth),
            peer_name=OPENSSL,
            targets=lambda _: {_METRIC: _TARGET},
        ).results(_PAIRS)
    return results
