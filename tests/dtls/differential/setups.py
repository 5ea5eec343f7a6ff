"""What two ends are told beforehand, drawn at random."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Literal, TypeVar

from mediapeer.dtls import (
    CipherSuite,
    NamedGroup,
    ProtocolVersion,
    Role,
    SignatureScheme,
    SrtpProtectionProfile,
)
from mediapeer.dtls.configuration import DEFAULT_GROUPS, DEFAULT_SIGNATURE_SCHEMES

Engine = Literal["mediapeer", "OpenSSL", "wolfSSL"]
Peer = Literal["OpenSSL", "wolfSSL"]
Asks = Literal["none", "optional", "required"]
Takes = Literal["anyone", "this peer", "another peer"]
T = TypeVar("T")

V12, V13 = ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3
#: Those with certificates; what OpenSSL calls them is in ``openssl.py``, and what wolfSSL does in ``wolf.py``.
SUITES_12 = tuple(s for s in CipherSuite if s.name.startswith(("TLS_ECDHE_ECDSA_", "TLS_ECDHE_RSA_")))
SUITES_13 = tuple(suite for suite in CipherSuite if "_WITH_" not in suite.name)
#: At its default security level, which wants a whole tag.
OPENSSL_SUITES = tuple(s for s in SUITES_12 if not s.name.endswith("CCM_8"))
HYBRID = tuple(group for group in NamedGroup if "MLKEM" in group.name)
CLASSICAL = tuple(group for group in NamedGroup if group not in HYBRID)
KINDS = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048")
TAKES: tuple[Takes, ...] = ("anyone", "this peer", "another peer")
PROTOCOLS = (b"webrtc", b"c-webrtc", b"coap")
#: Of the names that OpenSSL has for what we do not speak.
FOREIGN_SUITE = "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256"


def _name(value: object) -> str:
    """A short name of a value."""
    return str(getattr(value, "name", value)).removeprefix("TLS_").replace("_WITH", "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end. Lists are in its order of preference."""

    engine: Engine
    versions: frozenset[ProtocolVersion]
    "What it would speak if its suites and groups let it."
    suites: tuple[CipherSuite, ...]
    groups: tuple[NamedGroup, ...]
    shares: tuple[NamedGroup, ...] | None = None
    "Groups of which a client of ours sends shares of 1.3 at once; ``None`` for its default."
    schemes: tuple[SignatureScheme, ...] = DEFAULT_SIGNATURE_SCHEMES
    "What it signs and verifies by."
    certificates: tuple[str, ...] = ()
    asks: Asks = "required"
    "What a server wants of the client's certificate."
    takes: Takes = "anyone"
    "Whose certificate is accepted, by fingerprint."
    takes_p224: bool = False
    srtp: tuple[SrtpProtectionProfile, ...] = ()
    alpn: tuple[bytes, ...] = ()
    cookie: bool = False
    "Whether a server asks for a cookie first."
    mtu: int = 1200

    def __str__(self) -> str:
        values = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                listed = sorted(value) if isinstance(value, frozenset) else value
                text = (
                    " ".join(_name(v) for v in listed) if isinstance(listed, tuple | list) else _name(listed)
                )
                values.append(f"{field.name}={text}")
        return ", ".join(values)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One association to be made."""

    number: int
    role: Role
    "Ours."
    ours: Side
    theirs: Side
    loss: float = 0.0
    "How probable it is that a datagram is lost, in each direction."

    def __str__(self) -> str:
        lost = f", {self.loss:.0%} lost" if self.loss else ""
        return f"{self.number}: we are the {self.role.value}{lost}\n    {self.ours}\n    {self.theirs}"

    @property
    def client(self) -> Side:
        """The side that begins."""
        return self.ours if self.role is Role.CLIENT else self.theirs

    @property
    def server(self) -> Side:
        """The side that answers."""
        return self.theirs if self.role is Role.CLIENT else self.ours


def some(dice: random.Random, all_of: Sequence[T], *, whole: float = 0.5) -> tuple[T, ...]:
    """All in order, with the probability ``whole``; else one or more, in any order."""
    if dice.random() < whole:
        return tuple(all_of)
    return tuple(dice.sample(all_of, dice.randint(1, len(all_of))))


def our_side(dice: random.Random, role: Role, *, only_13: float) -> Side:
    """A configuration of ours.

    :param only_13: how probable it is that it speaks DTLS 1.3 alone.
    """
    versions = {V13} if dice.random() < only_13 else dice.choice([{V12, V13}, {V12, V13}, {V12, V13}, {V12}])
    groups = some(dice, DEFAULT_GROUPS, whole=0.6)
    shares = some(dice, groups, whole=0.2) if dice.random() < 0.3 else None
    has_none = role is Role.CLIENT and dice.random() < 0.1
    return Side(
        engine="mediapeer",
        versions=frozenset(versions),
        suites=some(dice, (*SUITES_13, *SUITES_12), whole=0.75),
        groups=groups,
        shares=shares,
        schemes=some(dice, DEFAULT_SIGNATURE_SCHEMES, whole=0.8),
        certificates=() if has_none else tuple(dice.sample(KINDS, dice.choice([1, 1, 2]))),
        asks=dice.choice(["none", "optional", "required", "required"]),
        takes=dice.choices(TAKES, [6, 3, 1])[0],
        takes_p224=dice.random() < 0.5,
        srtp=some(dice, tuple(SrtpProtectionProfile)) if dice.random() < 0.6 else (),
        alpn=some(dice, PROTOCOLS) if dice.random() < 0.3 else (),
        mtu=dice.choice([256, 300, 548, 1200, 1200, 1400]),
    )


def openssl_side(dice: random.Random, role: Role) -> Side:
    """A configuration of OpenSSL, which has DTLS 1.2 and no hybrid group in it."""
    has_none = role is Role.CLIENT and dice.random() < 0.15
    kinds = (*KINDS, "ecdsa-p224") if role is Role.CLIENT else KINDS
    return Side(
        engine="OpenSSL",
        versions=frozenset({V12}),
        # None of ours, at times: then it has the foreign ones alone.
        suites=() if dice.random() < 0.04 else some(dice, OPENSSL_SUITES, whole=0.7),
        groups=some(dice, CLASSICAL, whole=0.7),
        certificates=() if has_none else (dice.choice(kinds),),
        asks=dice.choice(["none", "optional", "required"]),
        srtp=some(dice, tuple(SrtpProtectionProfile)) if dice.random() < 0.6 else (),
        alpn=some(dice, PROTOCOLS) if dice.random() < 0.4 else (),
        cookie=role is Role.SERVER and dice.random() < 0.3,
        mtu=dice.choice([300, 548, 1200, 1400]),
    )


def wolfssl_side(dice: random.Random, role: Role) -> Side:
    """A configuration of the program ``tests/peers/wolfssl``, which always shows a certificate and wants one."""
    versions = dice.choice([{V12, V13}, {V13}, {V13}, {V12}])
    suites = [suite for suite in (*SUITES_13, *SUITES_12) if suite_version(suite) in versions]
    return Side(
        engine="wolfSSL",
        versions=frozenset(versions),
        suites=some(dice, suites, whole=0.75),
        groups=some(dice, tuple(NamedGroup) if V13 in versions else CLASSICAL),
        schemes=tuple(
            s for s in DEFAULT_SIGNATURE_SCHEMES if s is not SignatureScheme.ED25519
        ),  # as it was built
        certificates=(dice.choice(("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048")),),
        cookie=role is Role.SERVER and dice.random() < 0.5,
        mtu=dice.choice([700, 1000, 1200]),  # with more it sends hybrid shares unasked
    )


def suite_version(suite: CipherSuite) -> ProtocolVersion:
    """The version that a suite belongs to, as its name tells."""
    return V12 if suite in SUITES_12 else V13


def draw(seed: int, number: int, peer: Peer) -> Setup:
    """The setup number ``number`` of a seed."""
    dice = random.Random(f"{seed} {number} {peer}")
    role = dice.choice([Role.CLIENT, Role.SERVER])
    their_role = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    ours = our_side(dice, role, only_13=0.08 if peer == "OpenSSL" else 0.2)
    theirs = openssl_side(dice, their_role) if peer == "OpenSSL" else wolfssl_side(dice, their_role)
    loss = dice.choice([0.0, 0.0, 0.1, 0.2] if peer == "OpenSSL" else [0.0, 0.0, 0.0, 0.1])
    setup = Setup(number=number, role=role, ours=ours, theirs=theirs, loss=loss)
    return for_wolfssl(setup) if peer == "wolfSSL" else setup


def for_wolfssl(setup: Setup) -> Setup:
    """Keep to what wolfSSL can, where that has nothing to do with what is compared.

    A server of its that asks for a cookie keeps no piece of a ClientHello before that, so ours must be whole.
    """
    if setup.role is Role.SERVER:
        return setup
    ours, theirs = setup.ours, setup.theirs
    if V12 in theirs.versions or theirs.cookie:
        small = tuple(group for group in ours.groups if group not in HYBRID)
        ours = dataclasses.replace(ours, shares=small[:1], mtu=max(ours.mtu, 1200))
    return dataclasses.replace(setup, ours=ours)
