"""SRTP contexts from keying material."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mediapeer.dtls import SrtpProtectionProfile
from mediapeer.srtp import PROFILES, SrtpContexts, SrtpError, available_profiles, is_rtcp

RTP = bytes.fromhex("80600001000000010000162e") + b"payload"
RTCP = bytes.fromhex("80c90001deadbeef")


def contexts(profile: SrtpProtectionProfile) -> tuple[SrtpContexts, SrtpContexts]:
    material = bytes(range(PROFILES[profile].keying_material_length))
    return SrtpContexts(profile, material, is_client=True), SrtpContexts(profile, material, is_client=False)


def test_gcm_128_comes_first_and_the_32_bit_tag_last() -> None:
    assert available_profiles() == (
        SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM,
        SrtpProtectionProfile.SRTP_AEAD_AES_256_GCM,
        SrtpProtectionProfile.SRTP_AES128_CM_SHA1_80,
        SrtpProtectionProfile.SRTP_AES128_CM_SHA1_32,
    )


@pytest.mark.parametrize("profile", list(SrtpProtectionProfile))
@pytest.mark.parametrize("packet", [RTP, RTCP])
def test_what_one_end_protects_the_other_unprotects(profile: SrtpProtectionProfile, packet: bytes) -> None:
    client, server = contexts(profile)
    for sender, receiver in ((client, server), (server, client)):
        protected = sender.protect(packet)
        assert protected != packet
        assert receiver.unprotect(protected) == packet


@pytest.mark.parametrize("profile", list(SrtpProtectionProfile))
def test_each_direction_has_its_own_key_and_each_packet_counts_once(profile: SrtpProtectionProfile) -> None:
    client, server = contexts(profile)
    protected = client.protect(RTP)
    with pytest.raises(SrtpError):
        client.unprotect(protected)
    tampered = protected[:-1] + bytes([protected[-1] ^ 1])
    with pytest.raises(SrtpError):
        server.unprotect(tampered)
    assert server.unprotect(protected) == RTP
    with pytest.raises(SrtpError):
        server.unprotect(protected)


def aes_ctr(key: bytes, counter: bytes, length: int) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(length))


def test_the_keys_are_those_of_the_rfcs() -> None:
    """One packet worked out by the letter: RFC 5764 §4.2, RFC 3711 §4.3, RFC 7714 §8 and §9."""
    client_key, server_key, client_salt, server_salt = b"c" * 16, b"s" * 16, b"C" * 12, b"S" * 12
    client = SrtpContexts(
        SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM,
        client_key + server_key + client_salt + server_salt,
        is_client=True,
    )
    # Key derivation: the master salt with the label in its eighth byte, padded to a block.
    key = aes_ctr(client_key, client_salt + bytes(4), 16)
    salted = bytes(a ^ b for a, b in zip(client_salt, bytes(7) + b"\x02" + bytes(4), strict=True))
    salt = aes_ctr(client_key, salted + bytes(4), 12)
    header, payload = RTP[:12], RTP[12:]
    iv = bytes(2) + header[8:12] + bytes(4) + header[2:4]
    nonce = bytes(i ^ s for i, s in zip(iv, salt, strict=True))
    assert client.protect(RTP) == header + AESGCM(key).encrypt(nonce, payload, header)


def test_packets_that_cannot_be_are_errors_of_one_type() -> None:
    client, server = contexts(SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM)
    for bad in (b"", b"\x80", bytes(11), RTP[:12] + bytes(1500)):
        with pytest.raises(SrtpError):
            client.protect(bad)
        with pytest.raises(SrtpError):
            server.unprotect(bad)


def test_keying_material_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="56 bytes"):
        SrtpContexts(SrtpProtectionProfile.SRTP_AEAD_AES_128_GCM, bytes(60), is_client=True)


@pytest.mark.parametrize(
    ("second_byte", "expected"),
    [(96, False), (191, False), (192, True), (200, True), (223, True), (224, False)],
)
def test_rtcp_is_told_from_rtp_by_its_packet_type(second_byte: int, expected: bool) -> None:
    assert is_rtcp(bytes([0x80, second_byte])) is expected
