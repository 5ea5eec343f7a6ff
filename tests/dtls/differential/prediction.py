"""What has to come of two configurations: out of RFC 5246, 8422, 8446, 9147, 5764 and 7301, and what we promise.

Nothing here is the engine's. What another engine may choose freely is a set of values; what is told to the peer when
it cannot work is a set of alerts. Where another engine is known to go its own way, that is a :class:`Quirk`.
"""

import dataclasses
import enum
from collections.abc import Sequence
from typing import TypeVar

from mediapeer.dtls import AlertDescription, CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme
from tests.dtls.differential.setups import HYBRID, SUITES_12, SUITES_13, V12, V13, Setup, Side, suite_version

T = TypeVar("T")
ALERT = AlertDescription
CURVES = {
    "ecdsa-p256": NamedGroup.SECP256R1,
    "ecdsa-p384": NamedGroup.SECP384R1,
    "ecdsa-p521": NamedGroup.SECP521R1,
}
#: RFC 8446 §4.2.3: the one scheme of 1.3 for each curve.
CURVE_SCHEMES = {
    "ecdsa-p256": SignatureScheme.ECDSA_SECP256R1_SHA256,
    "ecdsa-p384": SignatureScheme.ECDSA_SECP384R1_SHA384,
    "ecdsa-p521": SignatureScheme.ECDSA_SECP521R1_SHA512,
}


class Quirk(enum.Enum):
    """Another engine's own way, in words for a report."""

    OPENSSL_VERSION = (
        "OpenSSL has no supported_versions in DTLS, and finds something else wrong with a client of 1.3"
    )
    OPENSSL_ED25519 = "OpenSSL has no Ed25519 in a DTLS server"
    OPENSSL_CURVE = (
        "OpenSSL's server of 1.2 wants the curve of the client's certificate among the groups of both"
    )
    WOLFSSL_VERSION = "wolfSSL's server of 1.2 asks a client of 1.3 alone for a cookie of 1.2"
    WOLFSSL_GROUPS = (
        "wolfSSL's server of 1.2 keeps neither to its groups nor to the client's for its certificate"
    )
    WOLFSSL_SUITES = "wolfSSL keeps all its suites of a version when only those of the other one are named"
    WOLFSSL_SCHEME = (
        "wolfSSL's client of 1.2 shows its certificate and signs, whatever schemes the server asks for"
    )
    WOLFSSL_OFFER = "wolfSSL's client offers 1.2 though it has no group for it"
    WOLFSSL_SIGNATURE = (
        "wolfSSL's client of 1.3 gives up where no signature fits, instead of showing no certificate"
    )

    @property
    def engine(self) -> str:
        """Whose it is."""
        return "OpenSSL" if self.name.startswith("OPENSSL") else "wolfSSL"


Quirks = frozenset[Quirk]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What has to come of a setup."""

    reasons: tuple[str, ...] = ()
    "Why it cannot work; empty when it must."
    alerts: frozenset[AlertDescription] = frozenset()
    "One of these is said, when it cannot work."
    version: ProtocolVersion | None = None
    suites: frozenset[CipherSuite] = frozenset()
    groups: frozenset[NamedGroup] = frozenset()
    srtp: int | None = None
    alpn: bytes | None = None
    client_is_known: bool = False
    "Whether the server learns the client's certificate."

    @property
    def is_connected(self) -> bool:
        """Whether it works."""
        return not self.reasons


class _Reasons:
    """Collects why it cannot work."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.alerts: set[AlertDescription] = set()

    def add(self, text: str, *alerts: AlertDescription) -> None:
        self.texts.append(text)
        self.alerts.update(alerts)

    def result(self) -> Expected:
        return Expected(reasons=tuple(self.texts), alerts=frozenset(self.alerts))


def spoken(side: Side) -> set[ProtocolVersion]:
    """The versions that a side has suites and groups for."""
    if side.engine == "OpenSSL":
        return set(side.versions)  # it always has suites, though at times none that we know
    return {
        version
        for version in side.versions
        if any(suite_version(suite) == version for suite in side.suites)
        and (version == V13 or any(group not in HYBRID for group in side.groups))
    }


def is_sound(side: Side) -> bool:
    """Whether a configuration of ours can be made at all."""
    return bool(spoken(side)) and all(group in side.groups for group in side.shares or ())


def can_sign(kind: str, version: ProtocolVersion, schemes: set[SignatureScheme]) -> bool:
    """Whether a key can sign by one of ``schemes``."""
    if kind == "ed25519":
        return SignatureScheme.ED25519 in schemes
    if kind.startswith("rsa"):
        usable = {s for s in schemes if s.name.startswith("RSA_PSS" if version == V13 else "RSA_")}
    elif version == V13:
        usable = schemes & {CURVE_SCHEMES.get(kind)}
    else:
        usable = {s for s in schemes if s.name.startswith("ECDSA_")}  # in 1.2 the curve is another matter
    return bool(usable)


def offered_groups(client: Side) -> list[NamedGroup]:
    """What a client's supported_groups says: hybrid ones only beside DTLS 1.3."""
    return [group for group in client.groups if V13 in spoken(client) or group not in HYBRID]


def predict(setup: Setup, quirks: Quirks = frozenset()) -> Expected:
    """What has to come of a setup, by the RFCs, or with another engine's own ways."""
    client, server = setup.client, setup.server
    if Quirk.WOLFSSL_SUITES in quirks:
        client, server = _with_more_suites(client), _with_more_suites(server)
    offered, taken = spoken(client), spoken(server)
    if Quirk.WOLFSSL_OFFER in quirks and client.engine == "wolfSSL":
        offered = set(client.versions)
    if Quirk.WOLFSSL_GROUPS in quirks and server.engine == "wolfSSL":
        taken = set(server.versions)
    common = offered & taken
    if not common:
        reasons = _Reasons()
        reasons.add("no version", ALERT.PROTOCOL_VERSION)
        if {Quirk.OPENSSL_VERSION, Quirk.WOLFSSL_VERSION} & quirks and server.engine != "mediapeer":
            reasons.alerts |= {ALERT.HANDSHAKE_FAILURE, ALERT.UNEXPECTED_MESSAGE}
        return reasons.result()
    return (_predict13 if V13 in common else _predict12)(client, server, quirks)


def _with_more_suites(side: Side) -> Side:
    if side.engine != "wolfSSL" or len(side.versions) == 1:
        return side
    more = tuple(
        suite
        for suite in (*SUITES_12, *SUITES_13)
        if suite_version(suite) not in {suite_version(named) for named in side.suites}
    )
    return dataclasses.replace(side, suites=(*side.suites, *more))


# DTLS 1.2


def _predict12(client: Side, server: Side, quirks: Quirks) -> Expected:
    reasons = _Reasons()
    offered = [group for group in offered_groups(client) if group not in HYBRID]
    is_careless = Quirk.WOLFSSL_GROUPS in quirks and server.engine == "wolfSSL"
    groups = offered if is_careless else _in_order(server, server.groups, offered)
    if not groups:
        reasons.add("no group", ALERT.HANDSHAKE_FAILURE)
    schemes = set(client.schemes) & set(server.schemes)
    usable = [
        kind
        for kind in server.certificates
        if can_sign(kind, V12, schemes)
        # RFC 8422 §5.1: the client has to know the curve of the certificate as well.
        and (is_careless or kind not in CURVES or CURVES[kind] in offered)
        and not (kind == "ed25519" and server.engine == "OpenSSL" and Quirk.OPENSSL_ED25519 in quirks)
    ]
    # Our server goes by its certificates first, and by its suites for the certificate then.
    common = [s for s in _in_order(server, server.suites, client.suites) if suite_version(s) == V12]
    fitting = {kind: [s for s in common if s.name.split("_")[2] == _method(kind)] for kind in usable}
    shown = [kind for kind in usable if fitting[kind]][:1]
    suites = fitting[shown[0]] if shown else []
    if not suites:
        reasons.add("no suite with a certificate for it", ALERT.HANDSHAKE_FAILURE)
    return _conclude(client, server, V12, reasons, suites, groups, shown, quirks)


def _method(kind: str) -> str:
    """What a suite of 1.2 calls the kind of key; Ed25519 goes as ECDSA (RFC 8422 §5.10)."""
    return "RSA" if kind.startswith("rsa") else "ECDSA"


def _in_order(server: Side, servers: Sequence[T], clients: Sequence[T]) -> list[T]:
    """What both have, in the order that decides: ours goes by the server's, OpenSSL by the client's."""
    first, second = (clients, servers) if server.engine == "OpenSSL" else (servers, clients)
    return [value for value in first if value in second]


# DTLS 1.3


def _predict13(client: Side, server: Side, quirks: Quirks) -> Expected:
    reasons = _Reasons()
    suites = [s for s in server.suites if s in client.suites and suite_version(s) == V13]
    if not suites:
        reasons.add("no suite", ALERT.HANDSHAKE_FAILURE)
    groups = [group for group in server.groups if group in client.groups]
    if not groups:
        reasons.add("no group", ALERT.HANDSHAKE_FAILURE)
    # A group that the client has sent a share of spares a round trip.
    shares = shared_at_once(client)
    groups.sort(key=lambda group: group not in shares)
    schemes = set(client.schemes) & set(server.schemes)
    shown = [kind for kind in server.certificates if can_sign(kind, V13, schemes)][:1]
    if not shown:
        reasons.add("no signature for a certificate", ALERT.HANDSHAKE_FAILURE)
    return _conclude(client, server, V13, reasons, suites, groups, shown, quirks)


def shared_at_once(client: Side) -> tuple[NamedGroup, ...]:
    """The groups of which a client's first ClientHello has a share."""
    if client.engine == "wolfSSL":
        first = client.groups[:1]
        return () if first[0] in HYBRID else first  # too long for one datagram: sent when it is asked for
    if client.shares is not None:
        return client.shares
    first = client.groups[:1]
    return (*first, NamedGroup.X25519) if NamedGroup.X25519 in client.groups else first


# What both versions have


def _conclude(
    client: Side,
    server: Side,
    version: ProtocolVersion,
    reasons: _Reasons,
    suites: list[CipherSuite],
    groups: list[NamedGroup],
    shown: list[str],
    quirks: Quirks,
) -> Expected:
    """Go on with what hellos and certificates lead to, when suite and group are known."""
    alpn = next((name for name in server.alpn if name in client.alpn), None)
    if server.engine == "mediapeer" and client.alpn and server.alpn and alpn is None:
        reasons.add("no application protocol", ALERT.NO_APPLICATION_PROTOCOL)  # RFC 7301 §3.2
    if server.asks == "none" and server.engine == "mediapeer" and server.takes != "anyone":
        reasons.add("nobody to be recognized", ALERT.BAD_CERTIFICATE)
    if reasons.texts:
        return reasons.result()
    _judge(reasons, client, shown)
    answer = _answer(reasons, client, server, version, quirks)
    if reasons.texts:
        return reasons.result()
    is_free = server.engine == "wolfSSL"
    return Expected(
        version=version,
        suites=frozenset(suites if is_free else suites[:1]),
        groups=frozenset(groups if is_free else groups[:1]),
        srtp=next((profile for profile in server.srtp if profile in client.srtp), None),
        alpn=alpn,
        client_is_known=bool(answer),
    )


def _answer(
    reasons: _Reasons, client: Side, server: Side, version: ProtocolVersion, quirks: Quirks
) -> list[str]:
    """The certificate that the client shows when it is asked for one, and whether the server takes it."""
    if server.asks == "none":
        return []
    schemes = set(client.schemes) & set(server.schemes)
    answer = [kind for kind in client.certificates if can_sign(kind, version, schemes)][:1]
    if version == V12 and client.engine == "wolfSSL" and Quirk.WOLFSSL_SCHEME in quirks:
        # Which scheme it takes is not known; if all that there are for its key were asked for, it is one of them.
        answer = list(client.certificates)
        family = "RSA_" if answer[0].startswith("rsa") else "ECDSA_"
        if not schemes.issuperset(s for s in SignatureScheme if s.name.startswith(family)):
            reasons.add("the client signs by what was not offered", ALERT.ILLEGAL_PARAMETER)
        _judge(reasons, server, answer)
    elif not answer and client.engine == "wolfSSL" and Quirk.WOLFSSL_SIGNATURE in quirks:
        reasons.add("the client gives up", ALERT.ILLEGAL_PARAMETER)
    elif not answer and server.asks == "required":
        alert = ALERT.CERTIFICATE_REQUIRED if version == V13 else ALERT.HANDSHAKE_FAILURE
        reasons.add("the client has no certificate", alert)
    else:
        _judge(reasons, server, answer)
    both = set(offered_groups(client)).intersection(server.groups)
    if Quirk.OPENSSL_CURVE in quirks and not both.issuperset(
        CURVES[kind] for kind in answer if kind in CURVES
    ):
        reasons.add("a curve that the server does not take", ALERT.ILLEGAL_PARAMETER)
    return answer


def _judge(reasons: _Reasons, judge: Side, shown: list[str]) -> None:
    """Whether a side takes the certificate that the other shows, if it shows one."""
    if judge.takes == "another peer" or (judge.takes == "this peer" and not shown):
        reasons.add("the wrong certificate", ALERT.BAD_CERTIFICATE)
    elif judge.engine == "mediapeer" and shown == ["ecdsa-p224"] and not judge.takes_p224:
        reasons.add("a key that is not taken", ALERT.UNSUPPORTED_CERTIFICATE)
