"""Associations with OpenSSL in memory. Many are made at once, to wait for OpenSSL's real timer once for all."""

import random
import time
from collections.abc import Iterable, Iterator

from OpenSSL import SSL
from OpenSSL._util import lib

from mediapeer.dtls import ApplicationData, CipherSuite, NamedGroup, ProtocolVersion, Role
from tests.dtls.differential.outcomes import DATA, LABEL, Outcome, credentials, our_configuration, seen_by
from tests.dtls.differential.setups import FOREIGN_SUITE, Setup, Side
from tests.dtls.test_pyopenssl import Association, Network
from tests.tools.pyopenssl import CIPHER_NAMES, OpenSslEnd, openssl_context

AT_ONCE = 100
PATIENCE = 25.0
"Seconds, of which OpenSSL's timer takes 1, 2, 4 and so on."
GROUP_NAMES = {
    NamedGroup.X25519: "X25519",
    NamedGroup.SECP256R1: "P-256",
    NamedGroup.SECP384R1: "P-384",
    NamedGroup.SECP521R1: "P-521",
}
SUITE_NAMES = CIPHER_NAMES | {
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM: "ECDHE-ECDSA-AES128-CCM",
}
_VERIFY = {
    "none": SSL.VERIFY_NONE,
    "optional": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}


def context_of(side: Side, role: Role) -> SSL.Context:
    """OpenSSL's side."""
    ciphers = ":".join(SUITE_NAMES[suite] for suite in side.suites) or FOREIGN_SUITE
    context = openssl_context(
        credentials(side.certificates[0], "theirs") if side.certificates else None,
        cipher_list=ciphers.encode(),
        srtp_profiles=":".join(profile.name for profile in side.srtp).encode() or None,
        alpn_protocols=side.alpn,
        require_peer_certificate=False,
    )
    asked = side.asks if role is Role.SERVER else "required"
    context.set_verify(_VERIFY[asked], lambda *_: True)
    # pyOpenSSL has no name for it.
    groups = ":".join(GROUP_NAMES[group] for group in side.groups)
    if lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) != 1:
        raise ValueError(f"OpenSSL does not take the groups {groups}")
    if side.cookie:
        context.set_options(SSL.OP_COOKIE_EXCHANGE or 0)
        context.set_cookie_generate_callback(lambda _: b"c" * 16)
        context.set_cookie_verify_callback(lambda _, cookie: cookie == b"c" * 16)
    return context


def losing(setup: Setup, direction: str) -> Network:
    """A network that loses what the setup says."""
    dice = random.Random(f"{setup.number} {direction}")
    return lambda batch: [datagram for _, datagram in batch if dice.random() >= setup.loss]


def associate(setup: Setup) -> Association:
    """An association, on as far as our own timer brings it."""
    their_role = Role.SERVER if setup.role is Role.CLIENT else Role.CLIENT
    association = Association(
        setup.role,
        our_configuration(setup),
        OpenSslEnd(context_of(setup.theirs, their_role), their_role, mtu=setup.theirs.mtu),
        from_us=losing(setup, "from us"),
        from_them=losing(setup, "from them"),
    )
    association.run()
    return association


def is_over(association: Association) -> bool:
    """Whether nothing more can come of it."""
    if association.ours.error is not None and association.theirs.error is not None:
        return True
    return association.completed and association.theirs.seconds_to_timeout() is None


def settle(associations: Iterable[Association]) -> None:
    """Let those that wait for OpenSSL's timer have it, all at once."""
    started = time.monotonic()
    while stuck := [association for association in associations if not is_over(association)]:
        timers = [a.theirs.seconds_to_timeout() for a in stuck if a.theirs.error is None]
        waits = [seconds for seconds in timers if seconds is not None]
        if not waits or time.monotonic() - started > PATIENCE:
            return
        seconds = min(waits) + 0.001
        time.sleep(seconds)
        for association in stuck:
            association.now += seconds
            association.ours.handle_timeout(association.now)
            if association.theirs.error is None and (association.theirs.seconds_to_timeout() or 0) <= 0:
                association.theirs.handle_timeout()
            association.run()


def outcome_of(association: Association) -> Outcome:
    """What came of it."""
    ours, theirs = association.ours, association.theirs
    outcome = seen_by(ours)
    outcome.their_error = str(theirs.error or "")
    outcome.connected = association.completed and ours.is_connected and theirs.error is None
    if outcome.connected:
        association.heal()
        ours.send_application_data(DATA)
        theirs.send(DATA)
        association.exchange()
        exported = ours.export_keying_material(LABEL, None, 60)
        if exported != theirs.ssl.export_keying_material(LABEL, 60, None):
            outcome.complaint = "the keys that both export differ"
        elif theirs.received[-1:] != [DATA] or association.events[-1] != ApplicationData(DATA):
            outcome.complaint = "data does not arrive"
        elif said_by(theirs) != (ours.version, ours.cipher_suite):
            outcome.complaint = f"OpenSSL says {said_by(theirs)}"
        outcome.connected = not outcome.complaint
    return outcome


def said_by(theirs: OpenSslEnd) -> tuple[ProtocolVersion | None, CipherSuite | None]:
    """Version and suite as OpenSSL has them."""
    names = {name: suite for suite, name in SUITE_NAMES.items()}
    version = ProtocolVersion.DTLS_1_2 if theirs.ssl.get_protocol_version_name() == "DTLSv1.2" else None
    return version, names.get(theirs.ssl.get_cipher_name() or "")


def run(setups: list[Setup]) -> Iterator[tuple[Setup, Outcome]]:
    """Make all associations, and say what came of each."""
    for first in range(0, len(setups), AT_ONCE):
        batch = setups[first : first + AT_ONCE]
        associations = [associate(setup) for setup in batch]
        settle(associations)
        for setup, association in zip(batch, associations, strict=True):
            yield setup, outcome_of(association)
