"""The one error of the payload formats."""


class PayloadError(ValueError):
    """A payload that is not of its format, or a frame that does not fit into one. The message says why."""
