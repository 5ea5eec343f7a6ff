"""How a command says that it cannot be run."""


class CommandError(Exception):
    """A command could not do what it was asked for. The message says why, and what to do about it."""
