"""An OpenSSL DTLS 1.2 end in this process, in memory, through pyOpenSSL."""

from collections.abc import Sequence

from cryptography import x509
from OpenSSL import SSL

from mediapeer.dtls import CipherSuite, Role, X509Credentials

#: What OpenSSL calls each cipher suite.
CIPHER_NAMES = {
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ECDHE-ECDSA-AES128-GCM-SHA256",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: "ECDHE-ECDSA-AES256-GCM-SHA384",
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "ECDHE-RSA-AES128-GCM-SHA256",
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: "ECDHE-RSA-AES256-GCM-SHA384",
    CipherSuite.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-RSA-CHACHA20-POLY1305",
}

_RECORD_HEADER_LENGTH = 13


def openssl_context(
    credentials: X509Credentials | None,
    *,
    cipher_list: bytes | None = None,
    srtp_profiles: bytes | None = None,
    alpn_protocols: Sequence[bytes] = (),
    require_peer_certificate: bool = True,
) -> SSL.Context:
    """A context for DTLS 1.2. Whatever certificate the peer has is taken.

    :param cipher_list: OpenSSL's names, joined by colons.
    :param srtp_profiles: OpenSSL's names, joined by colons.
    """
    context = SSL.Context(SSL.DTLS_METHOD)
    if credentials is not None:
        context.use_certificate(x509.load_der_x509_certificate(credentials.chain[0]))
        for certificate in credentials.chain[1:]:
            context.add_extra_chain_cert(x509.load_der_x509_certificate(certificate))
        context.use_privatekey(credentials.private_key)
    if require_peer_certificate:
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    if cipher_list is not None:
        context.set_cipher_list(cipher_list)
    if srtp_profiles is not None:
        context.set_tlsext_use_srtp(srtp_profiles)
    if alpn_protocols:
        context.set_alpn_protos(list(alpn_protocols))
        context.set_alpn_select_callback(
            lambda _, offered: next((p for p in alpn_protocols if p in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
    return context


class OpenSslEnd:
    """One association of OpenSSL's, with the face of a sans-IO engine. Its own timer runs on real time."""

    def __init__(self, context: SSL.Context, role: Role, *, mtu: int = 1200) -> None:
        self.handshake_completed = False
        self.closed = False
        self.error: SSL.Error | None = None
        self.received: list[bytes] = []
        self.ssl = SSL.Connection(context, None)
        self._mtu = mtu
        self.ssl.set_ciphertext_mtu(mtu)
        if role is Role.CLIENT:
            self.ssl.set_connect_state()
        else:
            self.ssl.set_accept_state()
        self._proceed()

    def receive_datagram(self, data: bytes) -> None:
        """Take one datagram of the peer."""
        if self.error is None:
            self.ssl.bio_write(data)
            self._proceed()

    def datagrams_to_send(self) -> list[bytes]:
        """What is to be sent. A memory BIO forgets where datagrams end, so records are packed anew."""
        try:
            stream = self.ssl.bio_read(1 << 20)
        except SSL.WantReadError:
            return []
        datagrams: list[bytes] = []
        while stream:
            length = _RECORD_HEADER_LENGTH + int.from_bytes(stream[11:13])
            record, stream = stream[:length], stream[length:]
            if datagrams and len(datagrams[-1]) + len(record) <= self._mtu:
                datagrams[-1] += record
            else:
                datagrams.append(record)
        return datagrams

    def send(self, data: bytes) -> None:
        """Send application data."""
        self.ssl.send(data)

    def close(self) -> None:
        """Send close_notify."""
        self.ssl.shutdown()

    def seconds_to_timeout(self) -> float | None:
        """Real seconds until it wants to send again, or ``None``."""
        seconds: float | None = self.ssl.DTLSv1_get_timeout()
        return seconds

    def handle_timeout(self) -> None:
        """Send again, if it is time to."""
        self.ssl.DTLSv1_handle_timeout()

    def _proceed(self) -> None:
        try:
            if not self.handshake_completed:
                self.ssl.do_handshake()
                self.handshake_completed = True
            while True:
                self.received.append(self.ssl.recv(65_536))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.error = error
