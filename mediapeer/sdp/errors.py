"""What is wrong with a description."""


class SdpError(ValueError):
    """A description cannot be read, or cannot be written.

    ``line`` is the number of the line, from 1, where one line is to blame, and otherwise ``None``. ``reason`` says
    what is wrong with it; it names attributes and never quotes their values, which may be secrets.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line
