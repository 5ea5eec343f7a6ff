"""The traffic secrets of an established DTLS 1.3 association, and their successors (RFC 8446 §7.2, RFC 9147 §8)."""

from collections import Counter

from mediapeer.dtls.epochs import ReadEpoch13, WriteEpoch13
from mediapeer.dtls.key_schedule13 import next_traffic_secret
from mediapeer.dtls.registry import CipherSuiteParameters

FIRST_APPLICATION_EPOCH = 3
"The epoch in which application data begins (RFC 9147 §6.1)."


class ApplicationTraffic:
    """Makes the epochs of both directions, one after the other.

    :param read_secret: the peer's first application traffic secret.
    :param write_secret: our first application traffic secret.
    """

    def __init__(self, parameters: CipherSuiteParameters, read_secret: bytes, write_secret: bytes) -> None:
        self._parameters = parameters
        self._read_secret = read_secret
        self._write_secret = write_secret
        self.read_epoch = FIRST_APPLICATION_EPOCH
        "The newest epoch that the peer may write in."
        self.write_epoch = FIRST_APPLICATION_EPOCH
        "The newest epoch that we may write in."

    def reader(self, counters: Counter[str]) -> ReadEpoch13:
        """What opens records of :attr:`read_epoch`."""
        return ReadEpoch13(self.read_epoch, self._parameters, self._read_secret, counters)

    def writer(self) -> WriteEpoch13:
        """What seals records of :attr:`write_epoch`."""
        return WriteEpoch13(self.write_epoch, self._parameters, self._write_secret)

    def update_reader(self) -> None:
        """The peer has sent a KeyUpdate."""
        self._read_secret = next_traffic_secret(self._parameters.hash_name, self._read_secret)
        self.read_epoch += 1

    def update_writer(self) -> None:
        """The peer has acknowledged our KeyUpdate."""
        self._write_secret = next_traffic_secret(self._parameters.hash_name, self._write_secret)
        self.write_epoch += 1
