"""A WebRTC endpoint for Python that stands on its own DTLS engine."""

__version__ = "0.1.0"
