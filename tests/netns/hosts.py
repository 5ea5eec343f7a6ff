"""Hosts in network namespaces of their own, each a process that does what it is told, and the wires between them.

Only within a sandbox (:mod:`tests.tools.sandbox`), which has what it takes and takes all away at its end.
"""

import asyncio
import ctypes
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

#: Bytes of one message to or from a host: a report has thousands of moments in it.
MESSAGE_LIMIT = 1 << 24
#: Seconds that a host has to do what it is told.
PATIENCE = 30.0
#: Seconds that it has to end when it is told to.
PATIENCE_AT_THE_END = 3.0

_CLONE_NEWNET = 0x40000000

_channels: list[socket.socket] = []

Tell = Callable[..., None]
"Called by what runs on a host, with an event's name and members."


class Program(Protocol):
    """What runs on a host: an attribute for each command, called with the command's members."""

    def __init__(self, tell: Tell) -> None: ...


class Host:
    """A host, as the one that tells it what to do sees it.

    Make all hosts before the event loop runs: each is a fork.

    :param program: what runs on it, beside :meth:`run` and :meth:`spawn`.
    """

    def __init__(self, name: str, program: type[Program]) -> None:
        ours, theirs = socket.socketpair()
        _channels.append(ours)
        self.name = name
        self.pid = os.fork()
        if self.pid == 0:
            # A host ends when its channel does, and no other may keep it open.
            for channel in _channels:
                channel.close()
            _be_host(theirs, program)
        theirs.close()
        self._socket = ours
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.on_event: Callable[[dict[str, Any]], None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def attach(self) -> None:
        """Begin to listen to it."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=MESSAGE_LIMIT)
        self._reading = asyncio.create_task(self._read(reader))
        await self.ip("link set lo up")
        # An IPv6 address works at once, instead of after a second in which nobody else claims it.
        await self.set("ipv6/conf/default/accept_dad", 0)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "event" in message:
                if self.on_event is not None:
                    self.on_event(message)
                continue
            answer = self._answers.pop(message["number"])
            if answer.done():
                continue  # nobody waits for it any more
            if "error" in message:
                answer.set_exception(RuntimeError(f"{self.name}: {message['error']}"))
            else:
                answer.set_result(message["result"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RuntimeError(f"{self.name} has ended"))

    async def call(self, command: str, **members: Any) -> Any:
        """Have it do something, and give what it says."""
        if self._writer is None:
            raise RuntimeError("not attached")
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"number": number, "command": command, "members": members}
        self._writer.write(json.dumps(message).encode() + b"\n")
        return await asyncio.wait_for(answer, PATIENCE)

    async def run(self, command: str) -> str:
        """Run a command there, given as words with spaces between, and give what it printed."""
        output: str = await self.call("run", argv=command.split())
        return output

    async def ip(self, *commands: str) -> None:
        """Run ``ip`` there, once for each."""
        for command in commands:
            await self.run(f"ip {command}")

    async def set(self, setting: str, value: int) -> None:
        """Set one of the settings under ``/proc/sys/net`` there, if the system has it."""
        path = f"/proc/sys/net/{setting}"
        await self.call("run", argv=["sh", "-c", f"[ ! -e {path} ] || echo {value} > {path}"])

    async def wire(self, name: str, other: "Host", other_name: str) -> None:
        """Lay a wire to another host, with a device at each end."""
        # The devices come into being in the namespace of the sandbox, under names that nothing else has there.
        near, far = f"w{self.pid}n{name}"[:15], f"w{other.pid}f{other_name}"[:15]
        await run(["ip", "link", "add", near, "type", "veth", "peer", "name", far])
        for host, temporary, device in ((self, near, name), (other, far, other_name)):
            await run(["ip", "link", "set", temporary, "netns", str(host.pid)])
            await host.ip(f"link set {temporary} name {device}")

    async def close(self) -> None:
        """Let the process end."""
        if self._writer is not None:
            self._writer.write_eof()
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=PATIENCE_AT_THE_END)
            self._reading.cancel()
        os.kill(self.pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, self.pid, 0)


async def run(argv: list[str]) -> str:
    """Run a command to its end, and give what it printed.

    :raises RuntimeError: when it fails; with what it printed.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {output.decode(errors='replace').strip()}")
    return output.decode()


async def refusal() -> str | None:
    """Why no wires can be laid here, or ``None``."""
    try:
        await run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"])
    except RuntimeError as error:
        return f"needs pairs of virtual Ethernet devices: {error}"
    await run(["ip", "link", "del", "near"])
    return None


def _be_host(channel: socket.socket, program: type[Program]) -> None:
    """Be the host until told to end; never comes back."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        # Not the loop's debug mode, whatever the interpreter's: it takes more time than all the rest.
        asyncio.run(_serve(channel, program), debug=False)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _serve(channel: socket.socket, program: type[Program]) -> None:
    reader, writer = await asyncio.open_connection(sock=channel, limit=MESSAGE_LIMIT)

    def say(message: dict[str, Any]) -> None:
        if not writer.is_closing():
            writer.write(json.dumps(message).encode() + b"\n")

    runs = program(lambda event, **members: say({"event": event, **members}))
    tasks: set[asyncio.Task[None]] = set()
    # In the end the children that commands have started go with the sandbox.
    children: list[asyncio.subprocess.Process] = []

    async def spawn(argv: list[str]) -> None:
        children.append(await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL))

    async def carry_out(number: int, work: Awaitable[Any]) -> None:
        try:
            say({"number": number, "result": await work})
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            say({"number": number, "error": text if isinstance(error, RuntimeError) else _traced(text)})

    own: dict[str, Callable[..., Awaitable[Any]]] = {"run": run, "spawn": spawn}
    while line := await reader.readline():
        message = json.loads(line)
        work = (own.get(message["command"]) or getattr(runs, message["command"]))(**message["members"])
        task = asyncio.create_task(carry_out(message["number"], work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for child in children:
        if child.returncode is None:
            child.kill()
            await child.wait()
    writer.close()


def _traced(text: str) -> str:
    return f"{text}\n{traceback.format_exc()}"


def missing(*programs: str) -> str | None:
    """Which of these commands is not here, as a reason; ``None`` when all are."""
    lacking = [program for program in programs if shutil.which(program) is None]
    return f"needs the command {', '.join(lacking)}" if lacking else None
