"""Where a server keeps sessions: inside tickets that the clients keep (RFC 5077, RFC 8446 §4.6.1), or in a cache."""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mediapeer.dtls.errors import ConfigurationError
from mediapeer.dtls.session import Session

KEY_NAME_LENGTH = 16
NONCE_LENGTH = 12
KEY_LENGTH = 32


@dataclass(frozen=True, slots=True, repr=False)
class OpenedTicket:
    """What was in a ticket of ours."""

    contents: bytes
    renew: bool = False
    "Whether the client should have a new ticket: this one's key is about to go."


class TicketProtector(Protocol):
    """Seals sessions into tickets. One object may serve any number of connections."""

    def seal(self, contents: bytes, now: float) -> bytes | None:
        """A ticket that nobody else can read or make, or ``None`` to give out none."""

    def open(self, ticket: bytes, now: float) -> OpenedTicket | None:
        """What is in ``ticket``, or ``None`` when it is not (or no longer) one of ours."""


class TicketKeys:
    """AES-256-GCM under keys that are replaced in turn, so that a stolen one opens little (RFC 5077 §5.5).

    A ticket says which key it is sealed with. The newest key seals; it and the ones before it open.

    :param rotation: after how many seconds a new key takes over.
    :param keys_kept: how many keys open tickets, the newest among them.
    :param random_bytes: where keys and nonces come from.
    :raises ConfigurationError: when no time or no key is left.
    """

    def __init__(
        self,
        rotation: float = 3600.0,
        keys_kept: int = 3,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if rotation <= 0 or keys_kept < 1:
            raise ConfigurationError("ticket keys need some time, and one key at least")
        self._rotation = rotation
        self._keys_kept = keys_kept
        self._random_bytes = random_bytes
        self._keys: OrderedDict[bytes, AESGCM] = OrderedDict()  # by name, the newest last
        self._rotates_at = 0.0

    def add_key(self, name: bytes, key: bytes, now: float) -> None:
        """Seal with this key from now on: for servers that share tickets.

        :param name: 16 bytes that all of them call it by.
        :param key: 32 random bytes.
        :raises ConfigurationError: for other lengths.
        """
        if len(name) != KEY_NAME_LENGTH or len(key) != KEY_LENGTH:
            raise ConfigurationError(f"a ticket key has {KEY_NAME_LENGTH} and {KEY_LENGTH} bytes")
        self._keys.pop(name, None)
        self._keys[name] = AESGCM(key)
        while len(self._keys) > self._keys_kept:
            self._keys.popitem(last=False)
        self._rotates_at = now + self._rotation

    def rotate(self, now: float) -> None:
        """Make a new key now, whatever the time."""
        self.add_key(self._random_bytes(KEY_NAME_LENGTH), self._random_bytes(KEY_LENGTH), now)

    def seal(self, contents: bytes, now: float) -> bytes:
        """See :meth:`TicketProtector.seal`."""
        if not self._keys or now >= self._rotates_at:
            self.rotate(now)
        name, key = next(reversed(self._keys.items()))
        nonce = self._random_bytes(NONCE_LENGTH)
        return name + nonce + key.encrypt(nonce, contents, name)

    def open(self, ticket: bytes, now: float) -> OpenedTicket | None:
        """See :meth:`TicketProtector.open`."""
        name = ticket[:KEY_NAME_LENGTH]
        nonce = ticket[KEY_NAME_LENGTH : KEY_NAME_LENGTH + NONCE_LENGTH]
        key = self._keys.get(name)
        if key is None or len(nonce) < NONCE_LENGTH:
            return None
        try:
            contents = key.decrypt(nonce, ticket[KEY_NAME_LENGTH + NONCE_LENGTH :], name)
        except InvalidTag:
            return None
        return OpenedTicket(contents, renew=name != next(reversed(self._keys)) or now >= self._rotates_at)


class SessionCache:
    """Keeps sessions of DTLS 1.2 by session ID, for clients without tickets (RFC 5246 §F.1.4).

    :param capacity: how many; the oldest make room.
    :raises ConfigurationError: when that is none.
    """

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ConfigurationError("a session cache keeps one session at least")
        self._capacity = capacity
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> None:
        """Keep a session."""
        self._sessions[session.session_id] = session
        while len(self._sessions) > self._capacity:
            self._sessions.popitem(last=False)

    def find(self, session_id: bytes, now: float) -> Session | None:
        """The session of this name, if it is fresh."""
        session = self._sessions.get(session_id)
        if session is not None and not session.is_fresh(now):
            del self._sessions[session_id]
            return None
        return session

    def remove(self, session_id: bytes) -> None:
        """Forget a session: its connection ended in an error (RFC 5246 §7.2.2)."""
        self._sessions.pop(session_id, None)
