"""What the tests drive: browsers, the openssl and gnutls commands, pyOpenSSL in memory, a UDP pump."""
