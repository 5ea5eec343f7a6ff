"""Behaviour that bugs in other engines teach, line by line: each test is named after what one of them got wrong."""

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from mediapeer.dtls import (
    AlertDescription,
    AlertReceived,
    CipherSuite,
    ClientAuthentication,
    ConnectionFailed,
    DecodeError,
    DtlsConnection,
    Fingerprint,
    FingerprintVerifier,
    NamedGroup,
    NotConnected,
    PeerMisbehaved,
    ProtocolVersion,
    Role,
    SequenceNumbersExhausted,
    StatelessListener,
    X509Credentials,
    extensions,
)
from mediapeer.dtls.credentials import FINGERPRINT_HASHES
from mediapeer.dtls.key_schedule13 import hkdf_expand_label
from mediapeer.dtls.messages import CertificateVerify, ClientHello, ServerHello
from mediapeer.dtls.reassembly import handshake_header
from mediapeer.dtls.record import serialize_record
from mediapeer.dtls.record_layer import OLD_EPOCH_LIFETIME
from mediapeer.dtls.registry import ContentType, ExtensionType, HandshakeType
from tests.dtls.forging import (
    answers,
    fresh_server,
    hello_body,
    is_server_hello,
    newest,
    other,
    piece,
    plain,
    retry_for,
    with_number_from_afar,
)
from tests.dtls.support import Pair, configuration, credentials
from tests.dtls.test_misbehaviour import tamper
from tests.ice.pairs_of_transports import close, connect, pair_of_ends
from tests.ice.virtual_sockets import virtual_bind_all
from tests.transport.paths import Ends, Receiver, routes, rtp, wrong_fingerprint
from tests.transport.virtual import Network, virtual

V12, V13 = ProtocolVersion.DTLS_1_2, ProtocolVersion.DTLS_1_3
ALERT = AlertDescription
HANDSHAKE, DATA = ContentType.HANDSHAKE, ContentType.APPLICATION_DATA
EACH_ROLE = pytest.mark.parametrize("victim", list(Role))
ONLY_12 = pytest.mark.parametrize("version", [V12], indirect=True)
ONLY_13 = pytest.mark.parametrize("version", [V13], indirect=True)
pytestmark = pytest.mark.usefixtures("version")


def send(pair: Pair, sender: Role, content_type: int, body: bytes, epoch: int | None = None) -> None:
    """Have an end send what it would not: a record under its keys."""
    records = pair.end(sender)._records
    writer = records.writer if epoch is None else records.writers[epoch]
    pair.end(sender)._datagrams.append(writer.seal(content_type, body))


# Never deliver application data from epoch 0, nor from the handshake epoch; bind content type to epoch.


@EACH_ROLE
def test_application_data_from_epoch_0_is_never_delivered(victim: Role) -> None:
    pair, record = Pair(), serialize_record(DATA, 7, b"from nobody")
    while pair.step():
        pair.end(victim).receive_datagram(record, pair.now)
    assert pair.received(victim) == []
    pair.assert_connected()


@ONLY_13
def test_application_data_from_the_handshake_epoch_is_never_delivered() -> None:
    """RFC 9147 §6.1 has data from epoch 3 on; who sends some in epoch 2 has the keys, and breaks the protocol."""
    pair = Pair()
    while 2 not in pair.client._records.writers:
        pair.step()
    send(pair, Role.CLIENT, DATA, b"before Finished", epoch=2)
    pair.run()
    assert pair.received(Role.SERVER) == []
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("content_type", [ContentType.CHANGE_CIPHER_SPEC, 24, 99])
def test_a_content_type_is_bound_to_its_epoch(content_type: int) -> None:
    """Unprotected it is dropped; protected it ends the association."""
    pair = Pair().run()
    pair.server.receive_datagram(serialize_record(content_type, 7, b"\1"), pair.now)
    pair.assert_connected()
    send(pair, Role.CLIENT, content_type, b"\1")
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.UNEXPECTED_MESSAGE


# The replay window moves only after a record has authenticated, one window per epoch; drop, never abort, on
# unauthenticated junk. A new read epoch is staged until its first authentic record.


@EACH_ROLE
def test_the_replay_window_moves_only_after_a_record_has_authenticated(victim: Role) -> None:
    pair = Pair().run()
    genuine = newest(pair, other(victim), b"genuine")
    for _ in range(300):
        pair.end(victim).receive_datagram(with_number_from_afar(genuine), pair.now)
    assert pair.end(victim).counters["unauthentic_records"] == 300
    pair.end(victim).receive_datagram(genuine, pair.now)
    pair.flush()
    assert pair.received(victim) == [b"genuine"]


@ONLY_13
def test_there_is_one_replay_window_per_epoch() -> None:
    """The new epoch begins at 0 again, where the old one's window was long past; and both go on side by side."""
    pair = Pair().run()
    for number in range(300):
        pair.client.send_application_data(b"%d" % number)
    pair.run()
    late = newest(pair, Role.CLIENT, b"late, of the old epoch")
    pair.client.update_keys(request_peer=False)
    pair.run()
    early = newest(pair, Role.CLIENT, b"first of the new epoch")
    for datagram in (early, late, early, late):
        pair.server.receive_datagram(datagram, pair.now)
    pair.flush()
    assert pair.received(Role.SERVER)[-2:] == [b"first of the new epoch", b"late, of the old epoch"]
    assert pair.server.counters["replayed_records"] == 2


@EACH_ROLE
def test_unauthenticated_junk_is_dropped_and_never_aborts(victim: Role) -> None:
    dice = random.Random(1)
    pair = Pair().run()
    genuine = newest(pair, other(victim), b"genuine")
    for _ in range(500):
        forged = bytearray(genuine)
        for _ in range(dice.randint(1, 4)):
            forged[dice.randrange(len(forged))] ^= 1 << dice.randrange(8)
        cut = bytes(forged[: dice.randint(0, len(forged))]) if dice.random() < 0.3 else bytes(forged)
        if cut != genuine:
            pair.end(victim).receive_datagram(cut, pair.now)
    assert pair.end(victim).datagrams_to_send() == []
    pair.assert_connected()


@ONLY_13
def test_a_new_read_epoch_is_staged_until_its_first_authentic_record() -> None:
    """Forgeries under the new epoch's bits do not let the old keys go; the peer's first record does, in time."""
    pair = Pair().run()
    old = [newest(pair, Role.CLIENT, b"old %d" % number) for number in range(2)]
    pair.impairment = lambda role, index, datagram: [] if role is Role.SERVER else [(0.0, datagram)]
    pair.client.update_keys(request_peer=False)
    pair.step()
    pair.step()
    assert pair.server.activity["key_updates_received"] == 1
    later = pair.now + 2 * OLD_EPOCH_LIFETIME
    pair.server.receive_datagram(bytes([0b00101100]) + bytes(2) + b"\0\x20" + bytes(32), pair.now)
    pair.server.handle_timeout(later)
    pair.server.receive_datagram(old[0], later)
    pair.flush()
    assert pair.received(Role.SERVER) == [b"old 0"]


# Fragments are keyed on message_seq, and must agree on type and length; overlapping ones merge; zero-length fragments
# end. (Memory that follows what was received, and bounds on messages, bytes and time: test_bounds.py.)


def test_fragments_are_keyed_on_message_seq() -> None:
    """Those of another message, of the same type and length, do not get into this one."""
    body, server = hello_body(), fresh_server()
    middle = len(body) // 2
    wrong = piece(bytes(len(body)), middle, len(body), seq=1)
    assert is_server_hello(answers(server, [wrong, piece(body, 0, middle), piece(body, middle, len(body))]))


@pytest.mark.parametrize("change", [{"kind": 2}, {"length": 4000}], ids=["type", "length"])
def test_fragments_must_agree_on_type_and_length(change: dict[str, int]) -> None:
    body, server = hello_body(), fresh_server()
    answers(server, [piece(body, 0, 90), piece(body, 90, len(body), **change)])
    assert isinstance(server.error, PeerMisbehaved)
    assert server.error.alert is ALERT.ILLEGAL_PARAMETER


def test_overlapping_fragments_merge() -> None:
    body, server = hello_body(), fresh_server()
    starts = list(range(0, len(body), 20))
    random.Random(2).shuffle(starts)
    assert is_server_hello(answers(server, [piece(body, start, start + 33) for start in starts]))


def test_zero_length_fragments_end() -> None:
    """They neither make a message nor keep a loop busy, and the message comes all the same."""
    body, server = hello_body(), fresh_server()
    empty = handshake_header(1, len(body), 0, 0, 0) * 1000
    assert answers(server, [serialize_record(HANDSHAKE, 0, empty)]) == []
    assert server._reassembler.blocks == 0
    assert is_server_hello(answers(server, [piece(body, 0, len(body))]))


# Messages must not span a key change. Sequence numbers and epochs never wrap: rekey, or close.


@EACH_ROLE
def test_messages_must_not_span_a_key_change(victim: Role) -> None:
    """The first protected message of a flight, one half before the change of keys and one after it."""
    pair = Pair(configuration(handshake_timeout=3.0), configuration(handshake_timeout=3.0))
    sender = pair.peer(victim)
    send_flight, split = sender.send_flight, []

    def send_split(messages: Any, *, answered: bool) -> None:
        first = next((m for m in messages if m.epoch and hasattr(m, "body")), None)
        send_flight([m for m in messages if m is not first], answered=answered)
        if first is not None:
            half = len(first.body) // 2
            split.append(first)
            for epoch, start, end in ((0, 0, half), (first.epoch, half, len(first.body))):
                header = handshake_header(
                    first.handshake_type, len(first.body), first.message_seq, start, end - start
                )
                record = sender._records.writers[epoch].seal(HANDSHAKE, header + first.body[start:end])
                sender._datagrams.append(record)

    sender.send_flight = send_split  # type: ignore[method-assign]
    pair.run()
    assert split
    assert pair.end(victim).error is not None


def test_sequence_numbers_never_wrap() -> None:
    pair = Pair().run()
    writer = pair.client._records.writer
    writer.next_sequence_number = 2**48 - 1
    with contextlib.suppress(SequenceNumbersExhausted):  # in 1.3 a KeyUpdate is due by now, and has no number
        pair.client.send_application_data(b"the last")
    with pytest.raises((SequenceNumbersExhausted, NotConnected)):
        pair.client.send_application_data(b"one too many")
    assert isinstance(pair.client.error, SequenceNumbersExhausted)
    assert writer.next_sequence_number == 2**48


@ONLY_13
def test_epochs_never_wrap() -> None:
    """Each costs a KeyUpdate, whose 16-bit message_seq ends long before an epoch's 48 bits (RFC 9147 §8)."""
    pair = Pair().run()
    for end, peer in ((pair.client, pair.server), (pair.server, pair.client)):
        post_handshake: Any = end._post_handshake
        post_handshake._next_message_seq = peer._reassembler.next_message_seq = 2**16 - 1
    pair.client.update_keys(request_peer=False)
    pair.run().assert_connected()
    with pytest.raises(SequenceNumbersExhausted):
        pair.client.update_keys(request_peer=False)
    with pytest.raises(NotConnected):
        pair.client.send_application_data(b"over")


# AEAD nonces come from the sequence number, never at random. AEAD usage limits trigger KeyUpdate.


@pytest.mark.parametrize("aead", ["AES_128_GCM", "CHACHA20_POLY1305"])
def test_aead_nonces_come_from_the_sequence_number(version: ProtocolVersion, aead: str) -> None:
    suites = tuple(suite for suite in CipherSuite if aead in suite.name)
    pair = Pair(configuration(cipher_suites=suites), configuration(cipher_suites=suites)).run()
    writer: Any = pair.client._records.writer
    owner = writer if version is V13 else writer._protection
    nonces, numbers = [], []

    class Recorder:
        def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
            nonces.append(int.from_bytes(nonce, "big"))
            return data + bytes(16)

    owner._aead = Recorder()
    for _ in range(300):
        numbers.append(writer.next_sequence_number)
        pair.client.send_application_data(b"the same")
    assert [nonce ^ nonces[0] for nonce in nonces] == [number ^ numbers[0] for number in numbers]


@ONLY_13
def test_aead_usage_limits_trigger_key_update() -> None:
    """RFC 9147 §4.5.3. Said once, and the new keys have limits of their own."""
    pair = Pair().run()
    pair.client._records.writer.limit = pair.client._records.writer.next_sequence_number + 3
    for number in range(10):
        pair.client.send_application_data(b"%d" % number)
    pair.run()
    assert pair.client.activity["key_updates_sent"] == pair.server.activity["key_updates_received"] == 1
    assert pair.client._records.writer.number == 4
    pair.assert_connected()


@ONLY_13
def test_as_many_forgeries_as_a_key_may_see_end_the_association() -> None:
    """With the short tags of CCM_8 that is 128 (RFC 9147 §4.5.3); the peer is told by bad_record_mac."""
    short = configuration(cipher_suites=(CipherSuite.TLS_AES_128_CCM_8_SHA256,))
    pair = Pair(short, short).run()
    genuine = newest(pair, Role.CLIENT, b"genuine")
    forged = [genuine[:-2] + number.to_bytes(2, "big") for number in range(200)]
    for number, datagram in enumerate((d for d in forged if d != genuine), 1):
        pair.server.receive_datagram(datagram, pair.now)
        assert pair.server.is_connected == (number <= 128)
    assert pair.server.error is not None
    assert pair.server.error.alert is ALERT.BAD_RECORD_MAC


# A ClientHello may come in several datagrams: reassemble before choosing the version; never sniff one datagram.
# After HelloRetryRequest the version is pinned, and a second one is fatal.


def test_a_client_hello_in_several_datagrams_is_reassembled_before_a_version_is_chosen(
    version: ProtocolVersion,
) -> None:
    client = DtlsConnection(configuration(mtu=256, alpn_protocols=(b"x" * 255,) * 2), Role.CLIENT, 0.0)
    datagrams = client.datagrams_to_send()
    assert len(datagrams) >= 3
    for first, last in itertools.permutations([datagrams[0], datagrams[-1]]):
        server: Any = fresh_server(maximum_version=V13)
        assert answers(server, [first, *datagrams[1:-1]]) == []
        assert server._handshake.version is None
        assert answers(server, [last])
        assert server._handshake.version is version


@ONLY_13
def test_after_a_hello_retry_request_the_version_is_pinned() -> None:
    client = DtlsConnection(configuration(), Role.CLIENT, 0.0)
    client.receive_datagram(plain(retry_for(NamedGroup.SECP384R1)), 0.0)
    suite = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    client.receive_datagram(plain(ServerHello(V12, bytes(32), suite), 1), 0.0)
    assert isinstance(client.error, PeerMisbehaved)
    assert client.error.alert is ALERT.ILLEGAL_PARAMETER


@ONLY_13
def test_a_second_hello_retry_request_is_fatal() -> None:
    client = DtlsConnection(configuration(), Role.CLIENT, 0.0)
    for seq, group in enumerate((NamedGroup.SECP384R1, NamedGroup.SECP521R1)):
        assert client.error is None
        client.receive_datagram(plain(retry_for(group), seq), 0.0)
    assert isinstance(client.error, PeerMisbehaved)
    assert client.error.alert is ALERT.UNEXPECTED_MESSAGE


# Unknown code points (GREASE, new extensions, permuted order) are ignored, never fatal. Duplicate ones are fatal.

GREASE = 0x7A7A


def greased(hello: ClientHello) -> ClientHello:
    """What a browser's ClientHello looks like (RFC 8701), its extensions in another order."""
    block = dict(hello.extensions)
    for kind in (ExtensionType.SUPPORTED_GROUPS, ExtensionType.SIGNATURE_ALGORITHMS):
        block[kind] = extensions.serialize_uint16_list((GREASE, *extensions.parse_uint16_list(block[kind])))
    if (versions := block.get(ExtensionType.SUPPORTED_VERSIONS)) is not None:
        known = extensions.parse_supported_versions(versions)
        block[ExtensionType.SUPPORTED_VERSIONS] = extensions.serialize_supported_versions((GREASE, *known))
        shares = extensions.parse_client_shares(block[ExtensionType.KEY_SHARE])
        block[ExtensionType.KEY_SHARE] = extensions.serialize_client_shares({GREASE: b"\0"} | shares)
    entries = [*block.items(), (GREASE, b"\0"), (0x8A8A, b""), (65000, b"new")]
    random.Random(3).shuffle(entries)
    return dataclasses.replace(
        hello, extensions=dict(entries), cipher_suites=(GREASE, *hello.cipher_suites, 0x1399)
    )


def test_unknown_code_points_are_ignored(version: ProtocolVersion) -> None:
    hello = greased(ClientHello.parse(hello_body()))
    server: Any = fresh_server()
    assert is_server_hello(answers(server, [plain(hello)]))
    assert server._handshake.version is version


@pytest.mark.parametrize("kind", [ExtensionType.SUPPORTED_GROUPS, GREASE])
def test_duplicate_extensions_are_fatal(kind: int) -> None:
    hello = dataclasses.replace(greased(ClientHello.parse(hello_body())), session_id=b"")
    block = [*hello.extensions.items(), (kind, hello.extensions[kind])]
    body = b"".join(k.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v for k, v in block)
    without = dataclasses.replace(hello, extensions={}).serialize()
    doubled = without + len(body).to_bytes(2, "big") + body
    server = fresh_server()
    answers(server, [piece(doubled, 0, len(doubled))])
    assert isinstance(server.error, DecodeError)


# The HKDF label prefix of 1.3 is "dtls13", without a space. Two of our own ends agreeing proves nothing.


def test_the_hkdf_label_prefix_is_dtls13_without_a_space() -> None:
    info = (16).to_bytes(2, "big") + bytes([len(b"dtls13key")]) + b"dtls13key" + b"\0"
    expected = HKDFExpand(hashes.SHA256(), 16, info).derive(bytes(range(32)))
    assert hkdf_expand_label("sha256", bytes(range(32)), b"key", b"", 16) == expected


# A lost last flight: answer a retransmitted Finished after completion; keep old read keys for a while; send ACKs at
# once when they unblock the peer.


def losing_first_answers(times: int, is_lost: Callable[[Pair], bool]) -> tuple[Pair, list[int]]:
    """A pair whose server's datagrams are lost ``times`` times from when ``is_lost`` says so."""
    lost: list[int] = []

    def lose(role: Role, index: int, datagram: bytes) -> list[tuple[float, bytes]]:
        if role is Role.SERVER and len(lost) < times and is_lost(pair):
            lost.append(index)
            return []
        return [(0.0, datagram)]

    pair = Pair(impairment=lose)
    return pair, lost


def test_a_retransmitted_finished_is_answered_after_completion(version: ProtocolVersion) -> None:
    """In 1.2 by the last flight, in 1.3 by an ACK."""
    pair, lost = losing_first_answers(3, lambda pair: pair.server.is_connected)
    pair.run()
    assert len(lost) == 3
    done = "retransmissions" if version is V12 else "acks_sent"
    assert pair.server.activity[done] >= 3
    pair.assert_connected()


@ONLY_13
def test_old_read_keys_are_kept_for_a_while() -> None:
    pair = Pair().run()
    late = [newest(pair, Role.CLIENT, b"late"), newest(pair, Role.CLIENT, b"too late")]
    pair.client.update_keys(request_peer=False)
    pair.run().assert_connected()
    for wait, datagram in zip((OLD_EPOCH_LIFETIME - 1, OLD_EPOCH_LIFETIME + 1), late, strict=True):
        pair.server.handle_timeout(pair.now + wait)
        pair.server.receive_datagram(datagram, pair.now + wait)
    pair.flush()
    assert b"late" in pair.received(Role.SERVER)
    assert b"too late" not in pair.received(Role.SERVER)


@ONLY_13
def test_acks_that_unblock_the_peer_are_sent_at_once() -> None:
    """A client that waits for the end, and an end whose KeyUpdate waits: neither waits for a timer of ours."""
    pair = Pair()
    while not pair.server.is_connected:
        pair.step()
    assert pair.server.activity["acks_sent"] == 1
    pair.run()
    pair.client.update_keys(request_peer=False)
    for datagram in pair.client.datagrams_to_send():
        pair.server.receive_datagram(datagram, pair.now)
    assert len(pair.server.datagrams_to_send()) == 1


# Time-outs are recomputed after every fire; the initial RTO can be set from the ICE round trip; backoff doubles to a
# cap; the number of tries and the total time are bounded and configurable, and end in a typed failure. (Time is in
# test_bounds.py.)


# A server's unverified reply is never larger than three times the request (test_cve_classes.py). Behind ICE the path
# is already validated, so no cookie round trip is spent there.


def test_behind_ice_no_cookie_round_trip_is_spent(version: ProtocolVersion) -> None:
    pair = Pair().run()
    hellos = sum(d[0] == HANDSHAKE and d[13] == HandshakeType.CLIENT_HELLO for d in pair.sent[Role.CLIENT])
    assert hellos == (1 if version is V12 else 2)  # a hybrid key share takes two datagrams
    assert is_server_hello(pair.sent[Role.SERVER])
    assert pair.now < 100.1


# DTLS is accepted only from the address pair that ICE selected or has checked.


@virtual
async def test_dtls_is_accepted_only_from_an_address_that_ice_has_checked(
    network: Network, version: ProtocolVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediapeer.ice.mux.bind_all", virtual_bind_all)
    ours, peer = pair_of_ends()
    await connect(ours, peer)
    host, port = peer.address
    for source in (("198.51.100.66", 6666), (host, port + 1), ("192.0.2.77", port)):
        network.inject(b"\x16 ClientHello", source, ours.address)
    network.inject(b"\x16 of the peer", (host, port), ours.address)
    assert ours.received == [b"\x16 of the peer"]
    await close(ours, peer)


# Client certificates always come with CertificateVerify. The fingerprint check is one code path for both roles, and
# failure sends bad_certificate, fails the connection on both sides and exports nothing.


def test_a_client_certificate_always_comes_with_certificate_verify() -> None:
    pair = Pair(server=configuration(client_authentication=ClientAuthentication.OPTIONAL))
    tamper(pair.client, {CertificateVerify: lambda message: None})
    pair.run()
    assert isinstance(pair.server.error, PeerMisbehaved)
    assert pair.server.error.alert is ALERT.UNEXPECTED_MESSAGE
    assert pair.server.peer_certificate is None


RIGHT, WRONG = credentials(name="right"), credentials(name="wrong")


def fingerprint(name: str, whose: X509Credentials) -> Fingerprint:
    """A fingerprint as signaling gives it; the value under a hash that is not supported does not matter."""
    return Fingerprint(name, whose.fingerprint(name if name.lower() in FINGERPRINT_HASHES else "sha-256"))


@EACH_ROLE
@pytest.mark.parametrize(
    ("fingerprints", "matches"),
    [
        ([("sha-256", RIGHT), ("SHA-512", RIGHT)], True),
        ([("md5", WRONG), ("sha-384", RIGHT)], True),
        ([("sha-256", RIGHT), ("sha-512", WRONG)], False),
        ([("md5", RIGHT), ("sha-1", RIGHT)], False),
        ([], False),
    ],
    ids=["all", "unknown hashes are ignored", "one does not", "none is supported", "none at all"],
)
def test_all_supported_fingerprints_must_match_or_both_ends_fail(
    victim: Role, fingerprints: list[tuple[str, X509Credentials]], matches: bool
) -> None:
    judge = configuration(verifier=FingerprintVerifier(itertools.starmap(fingerprint, fingerprints)))
    judged = configuration(credentials=(RIGHT,))
    pair = Pair(*((judge, judged) if victim is Role.CLIENT else (judged, judge))).run()
    if matches:
        pair.assert_connected()
        return
    for role, kind in ((victim, PeerMisbehaved), (other(victim), AlertReceived)):
        error = pair.end(role).error
        assert isinstance(error, kind)
        assert error.alert is ALERT.BAD_CERTIFICATE
        assert pair.events[role][-1] == ConnectionFailed(error)
        with pytest.raises(NotConnected):
            pair.end(role).export_keying_material(b"EXTRACTOR-dtls_srtp", None, 60)


# SRTP that arrives before the handshake's end waits in a small bounded queue and is released after the check.


@pytest.mark.parametrize("is_right", [True, False])
def test_srtp_before_the_handshakes_end_is_released_after_the_check_alone(is_right: bool) -> None:
    @virtual
    async def scenario(network: Network) -> None:
        ends = Ends()
        receiver = Receiver()
        ends.server.media.set_section("1", routes(receiver))
        for number in range(1000):
            ends.server_path.inject(rtp(number))
        await ends.handshake(for_server=None if is_right else wrong_fingerprint())
        assert ends.server.counters["early_srtp_full"] >= 1000 - 128
        assert ends.server.counters["srtp_unprotect_failed"] == (128 if is_right else 0)
        assert receiver.frames == []
        await ends.stop()

    scenario()


# Repeated ClientHello on an established association: a new handshake after proof of address, old state kept until
# then.


def test_a_repeated_client_hello_leaves_the_old_state_until_an_address_is_proved() -> None:
    options = {"groups": (NamedGroup.X25519, NamedGroup.SECP256R1), "handshake_timeout": None}
    listener = StatelessListener(configuration(**options), bytes(32))
    pair = Pair(configuration(**options), configuration(**options)).run()
    newcomer = DtlsConnection(configuration(**options), Role.CLIENT, pair.now)
    (hello,) = newcomer.datagrams_to_send()
    assert answers(pair.server, [hello], pair.now) == []
    request = listener.receive_datagram(hello, b"the peer", pair.now)
    assert isinstance(request, bytes)
    pair.assert_connected()
    newcomer.receive_datagram(request, pair.now)
    (hello,) = newcomer.datagrams_to_send()
    assert isinstance(listener.receive_datagram(hello, b"no peer!", pair.now), bytes)
    assert isinstance(listener.receive_datagram(hello, b"the peer", pair.now), DtlsConnection)
    pair.assert_connected()


# Secrets are not logged, except to an SSLKEYLOGFILE that the user asked for, in NSS key log format: test_secrets.
