"""The server: it answers browsers' calls over HTTP and hands them to a program."""

from signaling.application import create_application
from signaling.call import Call, CallHandler, CallState
from signaling.echo import echo
from signaling.errors import CallRefused, HandlerError, Problem
from signaling.guard import Guard
from signaling.recordings import RecordingStore
from signaling.run import AddressInUse, MediaPortError, run_server
from signaling.server import ServerOptions, SignalingServer

__all__ = [
    "AddressInUse",
    "Call",
    "CallHandler",
    "CallRefused",
    "CallState",
    "Guard",
    "HandlerError",
    "MediaPortError",
    "Problem",
    "RecordingStore",
    "ServerOptions",
    "SignalingServer",
    "create_application",
    "echo",
    "run_server",
]
