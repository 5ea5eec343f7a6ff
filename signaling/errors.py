"""What a client is told when something cannot be done (RFC 9457)."""

from collections.abc import Mapping


class Problem(Exception):
    """A request that cannot be met.

    :param status: the HTTP status code.
    :param title: what kind of problem it is, in a few words.
    :param detail: what happened here, and what to do about it.
    :param headers: header fields for the response.
    """

    def __init__(
        self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})

    def document(self) -> dict[str, object]:
        """The problem as ``application/problem+json``."""
        return {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}


class HandlerError(Exception):
    """The program that handles a call raised, or took too long to set the call up."""


class CallRefused(Exception):
    """The program that handles a call ended it before it was answered. The message is its reason."""
