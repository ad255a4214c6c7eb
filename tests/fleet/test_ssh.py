"""A host that takes a connection and then says nothing, as one behind a broken firewall does."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

LEAVES = """
import asyncio, sys
from edgefl.fleet import ssh
from edgefl.infra.inventory import Host

async def speak():
    async with ssh.converse(Host("edge-01", "device", "127.0.0.1", int(sys.argv[1]), "root"), ["true"]):
        pass

ssh.CONNECT_TIMEOUT_S = 300.0

async def leave():
    speaking = asyncio.create_task(speak())
    await asyncio.to_thread(sys.stdin.readline)
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)

asyncio.run(leave())
"""


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


@pytest.mark.slow
def test_a_process_does_not_wait_at_its_end_for_a_host_that_does_not_answer(mute: socket.socket) -> None:
    port = str(mute.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-c", LEAVES, port], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peer, _ = mute.accept()
    with peer:
        _, said = process.communicate("leave\n", timeout=60)
    assert process.returncode == 0
    assert said == "", "nothing is printed over the screen"
