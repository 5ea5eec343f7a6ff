"""Known answers: the PRF, the exporter, key derivation and record protection against what others computed."""

from collections import Counter
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mediapeer.dtls.epochs import ReadEpoch12, WriteEpoch12
from mediapeer.dtls.key_schedule import SessionSecrets, prf
from mediapeer.dtls.protection import AesGcmProtection, record_protection
from mediapeer.dtls.record import Record, split_datagram
from mediapeer.dtls.registry import CIPHER_SUITE_PARAMETERS, CipherSuite, ContentType


def test_prf_sha256_gives_the_published_answer() -> None:
    """The vector of the TLS working group's list, 2009, that other stacks test against as well."""
    output = prf(
        "sha256",
        bytes.fromhex("9bbe436ba940f017b17652849a71db35"),
        b"test label",
        bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c"),
        100,
    )
    assert output.hex() == (
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14ba"
        "f9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a51"
        "10fff70187347b66"
    )


@dataclass(frozen=True)
class Association:
    """A DTLS 1.2 association between two OpenSSL 3 ends: its secrets, its first records, what it exported."""

    suite: CipherSuite
    master_secret: str
    client_random: str
    server_random: str
    client_record: str
    server_record: str
    exported: str
    "60 bytes of EXTRACTOR-dtls_srtp without context."
    exported_with_context: str
    "32 bytes of EXPERIMENTAL with the context ctx."
    exported_with_empty_context: str

    @property
    def secrets(self) -> SessionSecrets:
        return SessionSecrets(
            CIPHER_SUITE_PARAMETERS[self.suite],
            bytes.fromhex(self.master_secret),
            bytes.fromhex(self.client_random),
            bytes.fromhex(self.server_random),
        )


ASSOCIATIONS = [
    Association(
        CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "1f676af71e67c9d3626d2fc01693936a9aeeaa430a123baacca54613073e9a00b9d1f9b62980e992ca7b2cf20cfb9b66",
        "6f1ee2231c0fb3f1807d64dfd21957117d2b686c940e8c1860a452b111021188",
        "0211db1b270e389321ea4cacdfc947a68bc73b73c41ee2d7c172f284e6cc4260",
        "17fefd0001000000000001003408c2b04b7a09c0d8c492d1d0e4bb5efce1e39340c1bef3f595c1c454ba4a74"
        "80afe46c4fb7c58798602b55f40d8266d2b59d1598",
        "17fefd000100000000000100347cf61a8a1456491ee26979cd1de7529143dc51e85143be2bbd1db11cf9b62f"
        "edcc939fe68fe7ef4db4940531043bcf93810ab79a",
        "38079cb372a2c76cfc8a6dd29e8a36cbbf3434de041bf3fbbaa005307d5ba271455f73509c6358bfc7d0920f"
        "ee0540e9c0c3d30e6ca2012d85487a56",
        "e98d243225d1ebd830e518f3e4944b104f9545d4cb1f14f998f86eff9705cc8f",
        "2e474a269f2fcfed79d1bd30d8c343d59a380c0e3796313c1c31b4dacfa12920",
    ),
    Association(
        CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "faa21e5158f262889575bd8038cd4ded01a3d74f7ea9820b500de6d29288af6f7ed57d5ff001d964936cb52cec8d6757",
        "0f07c21a7ccfb03c03e94975552148435882b91d7945da8100b75ee706e5e363",
        "eecac56004809bc83af0086edb51b163db94aacd0034823b4966bb1fa383a8f7",
        "17fefd00010000000000010034a3ba27d88ec55cc47d1a47ca4a64f09085b1ce8bfc45e5282d0837f86b7d60"
        "28df61f3a06ecca04577e72584b3f846bd870fb138",
        "17fefd000100000000000100347121e7be01b94d13c2d37b2a25dae904bd8f014ae12c76c8a42f6250969001"
        "af62c6a23f72546db8f68b812db40870a0600c3d72",
        "a130920d504561180c8d5ce17b7f6226fcc6e7454655655d9b795571ee6107518a4167900dfc65895ebec251"
        "52a8c3730ab3de4f7e2dcd87f1f39175",
        "e8706aac88c1de2279206472fafc53797876ccdc7e9ab5ca47a7d29901183e87",
        "150c7ab36b4de04f97a578fa5b6484120c73fe0041bb7ad41e45d6733f59c3f2",
    ),
    Association(
        CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "63bc35db38eb5c8cf5fbad7d2cce2c40455a0b4ea8bddd196b4681b63ad01fecfef7652788c7a98c79aa1bff97fd78f0",
        "fa66469b95966e31ad92a5b19cac9bb5ade0b947b066e8c0e99dfb08f12893b1",
        "9af724131538aad179f3459936d784f8e685c039a8a03192195903da5085a119",
        "17fefd0001000000000001002c48e24da7393bb44b0a04cabf723a83521208e27f5b3694984c2d0f6b8e1e23"
        "032c08adae723bec5273832c3d",
        "17fefd0001000000000001002cedbcb30bd4a5b55b44f12e40525930d9cd807b0816cea81e38055d8d40bc1c"
        "c948f74d4add7e9b6800b2649f",
        "b3819b82614b01f72a2646bc6f851875f94d26d8bf0bf432748762cfc4907b57373ada689b8b6773fe2ae695"
        "0d692f2dacb04314a7e8ea181839ed3d",
        "3c5e7a559cc3dafc58bf4ca1f4b66f3feb4f8256a26396234cd535bfacc1512d",
        "20701001d9d20a48437ad8c83e7a376d1d8b6b7f529ecb48f1e35b2ac2953297",
    ),
]
each_association = pytest.mark.parametrize("association", ASSOCIATIONS, ids=lambda a: a.suite.name)


@each_association
def test_records_of_openssl_open_with_the_derived_keys(association: Association) -> None:
    parameters = CIPHER_SUITE_PARAMETERS[association.suite]
    block = association.secrets.key_block()
    for key, iv, datagram, plaintext in (
        (
            block.client_write_key,
            block.client_write_iv,
            association.client_record,
            b"known answer from the client",
        ),
        (
            block.server_write_key,
            block.server_write_iv,
            association.server_record,
            b"known answer from the server",
        ),
    ):
        ((record,), whole) = split_datagram(bytes.fromhex(datagram))
        assert whole
        assert isinstance(record, Record)
        opened = ReadEpoch12(1, record_protection(parameters, key, iv), Counter()).open(record)
        assert opened == (1, ContentType.APPLICATION_DATA, record.sequence_number, plaintext)


def test_chacha20_records_are_sealed_to_the_same_bytes() -> None:
    """Its nonce is the sequence number alone, so the whole record is determined (RFC 7905 §2)."""
    association = ASSOCIATIONS[2]
    block = association.secrets.key_block()
    protection = record_protection(
        CIPHER_SUITE_PARAMETERS[association.suite], block.client_write_key, block.client_write_iv
    )
    sealed = WriteEpoch12(1, protection, first_sequence_number=1).seal(
        ContentType.APPLICATION_DATA, b"known answer from the client"
    )
    assert sealed.hex() == association.client_record


def test_gcm_nonces_are_the_sequence_number() -> None:
    """A fixed salt, then epoch and sequence number, which also stand before the ciphertext (RFC 5288 §3)."""
    key, salt = bytes(range(16)), b"salt"
    fragment = AesGcmProtection(key, salt).seal(ContentType.APPLICATION_DATA, (1 << 48) + 7, b"data")
    nonce = bytes.fromhex("0001000000000007")
    additional_data = nonce + bytes.fromhex("17fefd0004")
    assert fragment == nonce + AESGCM(key).encrypt(salt + nonce, b"data", additional_data)


@each_association
def test_the_exporter_agrees_with_openssl(association: Association) -> None:
    secrets = association.secrets
    assert secrets.export(b"EXTRACTOR-dtls_srtp", None, 60).hex() == association.exported
    assert secrets.export(b"EXPERIMENTAL", b"ctx", 32).hex() == association.exported_with_context
    assert secrets.export(b"EXPERIMENTAL", b"", 32).hex() == association.exported_with_empty_context


@each_association
def test_the_key_log_line_is_nss_format(association: Association) -> None:
    assert association.secrets.key_log_line() == (
        f"CLIENT_RANDOM {association.client_random} {association.master_secret}"
    )
