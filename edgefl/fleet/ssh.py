"""SSH to a host: its key is known beforehand or the connection is refused, and every failure has a name.

The operator authenticates by the host's `ssh_key`, else by agent and default keys; never by password. Commands run as root,
directly or through `sudo -n`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import shlex
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet.dial import dial
from edgefl.infra.inventory import Host

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT_S = 10.0
_POOL = ThreadPoolExecutor(max_workers=128, thread_name_prefix="ssh")
"""Threads for paramiko, which blocks; asyncio's own pool has too few for a fleet."""
_LOG, _NOWHERE = logging.getLogger("paramiko"), logging.NullHandler()
"""What paramiko logs is raised too; without a handler it would print tracebacks over whatever is on the screen."""
P = ParamSpec("P")
R = TypeVar("R")


class DeviceUnreachable(EdgeflError):
    """The host does not answer on SSH, or the connection was lost."""

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, host: Host, reason: str, *, hint: str = "") -> None:
        super().__init__(
            f"{host.name} ({host.address}) does not answer on SSH: {reason}", hint=hint or f"edgefl doctor {host.name}"
        )


class AuthenticationRefused(EdgeflError):
    """The host accepts none of the operator's keys."""

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, host: Host, reason: str) -> None:
        offered = host.ssh_key or "the agent's and the default keys"
        super().__init__(
            f"{host.name} ({host.address}) refuses {host.user} with {offered}: {reason}",
            hint=f"ssh-copy-id -p {host.port} {host.user}@{host.address}, or set `ssh_user` and `ssh_key` in site.yaml",
        )


class HostKeyMismatch(EdgeflError):
    """The host shows another key than the known one, or none is known: nobody is trusted on first use."""

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, host: Host, reason: str) -> None:
        super().__init__(
            f"{host.name} ({host.address}) cannot be told from an impostor: {reason}",
            hint=f"compare `ssh-keyscan -p {host.port} {host.address}` with the host's console, then set `host_key` in site.yaml",
        )


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command left: its exit status and its output."""

    returncode: int
    stdout: bytes
    stderr: bytes

    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")


async def run(
    host: Host,
    argv: Sequence[str],
    input: bytes = b"",  # noqa: A002 - as subprocess.run calls it
    *,
    timeout_s: float = 60.0,
) -> Completed:
    """Run one command as root on the host over a connection of its own.

    Raises DeviceUnreachable, AuthenticationRefused or HostKeyMismatch; a command's own failure is only its returncode.
    """
    connected: list[paramiko.SSHClient] = []
    try:
        return await _in_thread(_run, host, argv, input, timeout_s, connected)
    except asyncio.CancelledError:
        for client in connected:
            client.close()  # ends the thread's wait
        raise


def connect(host: Host) -> paramiko.SSHClient:
    """An authenticated connection for the caller to close. Raises DeviceUnreachable, AuthenticationRefused or HostKeyMismatch."""
    import paramiko

    _LOG.addHandler(_NOWHERE)
    if host.ssh_key and not Path(host.ssh_key).is_file():
        raise AuthenticationRefused(host, "that file does not exist")
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    _know(client, host)
    with translated(host):
        client.connect(
            host.address,
            host.port,
            host.user,
            sock=dial(host, host.port, CONNECT_TIMEOUT_S),
            key_filename=host.ssh_key,
            allow_agent=host.ssh_key is None,
            look_for_keys=host.ssh_key is None,
            banner_timeout=CONNECT_TIMEOUT_S,
            auth_timeout=CONNECT_TIMEOUT_S,
        )
    return client


class Conversation:
    """A program on a host that is spoken with by lines."""

    def __init__(self, host: Host, channel: paramiko.Channel) -> None:
        self._host = host
        self._channel = channel
        self._lines = channel.makefile("rb")

    async def send(self, data: bytes) -> None:
        """Write to the program's standard input. Raises DeviceUnreachable when it is gone."""

        def send() -> None:
            with translated(self._host):
                self._channel.sendall(data)

        await _in_thread(send)

    async def line(self) -> bytes:
        """The next line. Raises DeviceUnreachable when the program ended, with what it said last, or is silent for too long."""

        def read() -> bytes:
            with translated(self._host):
                line: bytes = self._lines.readline()
                if line:
                    return line
                said = self._channel.recv_stderr(65536).decode(errors="replace").strip().splitlines()
                raise EOFError(said[-1] if said else "the program ended early")

        return await _in_thread(read)


@asynccontextmanager
async def converse(host: Host, argv: Sequence[str], *, timeout_s: float = 30.0) -> AsyncIterator[Conversation]:
    """Start a program as root on the host and speak with it; leaving ends it. `timeout_s` is how long it may stay silent."""
    client = await _connected(host)
    try:

        def start() -> Conversation:
            with translated(host):
                channel = _channel(client, timeout_s)
                channel.exec_command(as_root(host, argv))
                return Conversation(host, channel)

        yield await _in_thread(start)
    finally:
        client.close()


def as_root(host: Host, argv: Sequence[str]) -> str:
    """The command line that runs `argv` with root's rights."""
    return shlex.join(argv if host.user == "root" else ["sudo", "-n", "--", *argv])


@contextlib.contextmanager
def translated(host: Host) -> Iterator[None]:
    """Turn what SSH and the network raise into edgefl's errors."""
    import paramiko

    try:
        yield
    except paramiko.BadHostKeyException as error:
        reason = (
            f"it shows {error.key.get_name()} {error.key.get_base64()[-16:]}, known is …{error.expected_key.get_base64()[-16:]}"
        )
        raise HostKeyMismatch(host, reason) from error
    except paramiko.AuthenticationException as error:
        raise AuthenticationRefused(host, str(error)) from error
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise HostKeyMismatch(host, "its host key is neither in site.yaml nor in ~/.ssh/known_hosts") from error
        raise DeviceUnreachable(host, str(error)) from error
    except TimeoutError as error:
        raise DeviceUnreachable(host, f"no answer on port {host.port} for {CONNECT_TIMEOUT_S:.0f} s") from error
    except (OSError, EOFError) as error:
        raise DeviceUnreachable(host, getattr(error, "strerror", None) or str(error) or "the connection was lost") from error


def _know(client: paramiko.SSHClient, host: Host) -> None:
    """Pin the host's key; without one, the operator's known_hosts decides."""
    import paramiko

    if host.host_key is None:
        with contextlib.suppress(OSError):
            client.load_system_host_keys()
        return
    try:
        kind, encoded = host.host_key.split()[:2]
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(encoded, validate=True))
    except (ValueError, paramiko.SSHException, paramiko.UnknownKeyType) as error:
        raise HostKeyMismatch(host, f"`host_key` is no SSH public key: {host.host_key[:40]}") from error
    name = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
    client.get_host_keys().add(name, kind, key)


def _run(host: Host, argv: Sequence[str], sent: bytes, timeout_s: float, connected: list[paramiko.SSHClient]) -> Completed:
    client = connect(host)
    connected.append(client)
    with contextlib.closing(client), translated(host):
        try:
            channel = _channel(client, timeout_s)
            channel.exec_command(as_root(host, argv))
            return _converse(channel, sent)
        except TimeoutError as error:
            raise DeviceUnreachable(host, f"`{argv[0]}` did not end within {timeout_s:.0f} s") from error


def _channel(client: paramiko.SSHClient, timeout_s: float) -> paramiko.Channel:
    transport = client.get_transport()
    if transport is None:
        raise EOFError
    channel = transport.open_session(timeout=timeout_s)
    channel.settimeout(timeout_s)
    return channel


def _converse(channel: paramiko.Channel, sent: bytes) -> Completed:
    """Feed and drain all three streams at once: a full window on one must not stop the others."""
    errors = bytearray()

    def feed() -> None:
        with contextlib.suppress(OSError, socket.timeout):  # the command need not read what it is given
            channel.sendall(sent)
            channel.shutdown_write()

    def drain_errors() -> None:
        with contextlib.suppress(TimeoutError):
            while part := channel.recv_stderr(65536):
                errors.extend(part)

    threads = [threading.Thread(target=work, daemon=True) for work in (feed, drain_errors)]
    for thread in threads:
        thread.start()
    output = bytearray()
    while part := channel.recv(65536):
        output.extend(part)
    for thread in threads:
        thread.join()
    return Completed(channel.recv_exit_status(), bytes(output), bytes(errors))


async def _connected(host: Host) -> paramiko.SSHClient:
    """As `connect`, in a thread that nobody has to wait for: a host that does not answer must not hold up a process's end."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[paramiko.SSHClient] = loop.create_future()
    opened: list[paramiko.SSHClient] = []
    left = threading.Event()

    def settle(error: Exception | None) -> None:
        if arrived.done():
            return
        if error is None:
            arrived.set_result(opened[0])
        else:
            arrived.set_exception(error)

    def work() -> None:
        failed = None
        try:
            opened.append(connect(host))
        except Exception as error:  # noqa: BLE001 — raised where it is waited for
            failed = error
        if left.is_set():
            for client in opened:
                client.close()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, failed)

    threading.Thread(target=work, name=f"ssh {host.name}", daemon=True).start()
    try:
        return await arrived
    except asyncio.CancelledError:
        left.set()
        for client in opened:
            client.close()
        raise


async def _in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.get_running_loop().run_in_executor(_POOL, lambda: work(*args, **kwargs))
