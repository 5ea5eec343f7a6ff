"""Random configurations of our end and of another engine's, and whether what comes of them is what has to come.

``python -m tests.dtls.differential --count 1000 --seed 1`` makes half of its associations with OpenSSL (DTLS 1.2, in
memory) and half with wolfSSL (DTLS 1.2 and 1.3, over UDP), each end in both roles. What has to come of two
configurations is written down in :mod:`.prediction`, out of the RFCs and without the engine's code.
"""
