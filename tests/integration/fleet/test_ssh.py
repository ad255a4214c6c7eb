"""SSH against a real server."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgefl.errors import ExitCode
from edgefl.fleet import ssh
from edgefl.infra.inventory import Host


async def test_a_command_gets_its_input_and_gives_its_output_errors_and_status(loopback_host: Host) -> None:
    done = await ssh.run(loopback_host, ["sh", "-c", 'cat; echo "$1" >&2; exit 7', "sh", "it's odd"], b"in" * 300_000)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"in" * 300_000, b"it's odd\n")


async def test_a_command_that_ignores_its_input_does_not_hang(loopback_host: Host) -> None:
    assert (await ssh.run(loopback_host, ["true"], b"x" * 5_000_000)).returncode == 0


async def test_a_host_whose_key_is_another_one_is_refused(loopback_host: Host, tmp_path: Path) -> None:
    impostor = replace(loopback_host, host_key=new_key(tmp_path / "other"))
    with pytest.raises(ssh.HostKeyMismatch, match="impostor"):
        await ssh.run(impostor, ["true"])


async def test_a_host_whose_key_nobody_knows_is_refused(
    loopback_host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ssh.HostKeyMismatch, match="known_hosts"):
        await ssh.run(replace(loopback_host, host_key=None), ["true"])


async def test_the_operators_known_hosts_serve_where_the_site_names_no_key(
    loopback_host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{loopback_host.port} {loopback_host.host_key}")
    assert (await ssh.run(replace(loopback_host, host_key=None), ["echo", "hi"])).text() == "hi\n"


async def test_a_key_that_the_host_does_not_accept_is_named(loopback_host: Host, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger")
    with pytest.raises(ssh.AuthenticationRefused) as refused:
        await ssh.run(replace(loopback_host, ssh_key=str(tmp_path / "stranger")), ["true"])
    assert "stranger" in refused.value.what
    assert refused.value.exit_code == ExitCode.UNREACHABLE


async def test_a_key_file_that_is_not_there_is_named(loopback_host: Host, tmp_path: Path) -> None:
    with pytest.raises(ssh.AuthenticationRefused, match="absent"):
        await ssh.run(replace(loopback_host, ssh_key=str(tmp_path / "absent")), ["true"])


async def test_a_port_where_nobody_listens_is_unreachable(loopback_host: Host) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ssh.DeviceUnreachable, match="refused") as unreachable:
            await ssh.run(replace(loopback_host, port=closed.getsockname()[1]), ["true"])
    assert unreachable.value.hint == "edgefl doctor loop"


async def test_a_server_that_speaks_no_ssh_is_unreachable(loopback_host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ssh.DeviceUnreachable):
            await ssh.run(replace(loopback_host, port=port), ["true"])
    assert capfd.readouterr().err == ""


async def test_a_command_that_does_not_end_in_time_is_given_up(loopback_host: Host) -> None:
    with pytest.raises(ssh.DeviceUnreachable, match="did not end within"):
        await ssh.run(loopback_host, ["sleep", "30"], timeout_s=0.3)


async def test_cancelling_ends_the_connection_at_once(loopback_host: Host) -> None:
    task = asyncio.create_task(ssh.run(loopback_host, ["sleep", "30"]))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)


async def test_twelve_commands_at_once_all_come_back(loopback_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_TIMEOUT_S", 60.0)  # twelve handshakes are this process' own work
    done = await asyncio.gather(*(ssh.run(loopback_host, ["echo", str(n)]) for n in range(12)))
    assert [int(one.stdout) for one in done] == list(range(12))


async def test_a_program_can_be_spoken_with_line_by_line(loopback_host: Host) -> None:
    async with ssh.converse(loopback_host, ["sh", "-c", 'while read -r line; do echo "got $line"; done']) as talk:
        for word in (b"one\n", b"two\n"):
            await talk.send(word)
            assert await talk.line() == b"got " + word


async def test_a_program_that_dies_in_a_conversation_says_why(loopback_host: Host) -> None:
    async with ssh.converse(loopback_host, ["sh", "-c", "echo 'no space left' >&2; exit 1"]) as talk:
        with pytest.raises(ssh.DeviceUnreachable, match="no space left"):
            await talk.line()


def new_key(path: Path) -> str:
    """Make a key pair; its public key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()
