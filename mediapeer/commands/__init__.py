"""The commands that are not ``serve``; ``mediapeer/cli.py`` runs them."""

from mediapeer.commands.errors import CommandError

__all__ = ["CommandError"]
