"""Reach a lab host from a process of the operator's: no lab address exists in the machine's own network.

Kept light on purpose: every SSH connection starts a process that imports it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

from edgefl.lab.failure import LabFailed
from edgefl.lab.process import Process

CLONE_NEWNET = 0x40000000
CAPSULE_FILE = "capsule.json"
"""In the lab's directory: the process that holds its namespaces."""


def dial(capsule: Path, host: str, port: int, timeout_s: float = 10) -> socket.socket:
    """A TCP connection to a host of the lab that lives in the directory `capsule`; the socket works in any thread afterwards.

    A thread of its own enters the lab's network, so the caller's stays where it is.
    Raises LabFailed when that lab is not running, OSError as `socket.create_connection` does.
    """
    running = Process.load(capsule / CAPSULE_FILE)
    if running is None:
        raise LabFailed(f"the lab in {capsule} is not running", hint="edgefl up")
    connected: list[socket.socket] = []
    failed: list[OSError] = []

    def connect() -> None:
        try:
            enter_network(Path(f"/proc/{running.pid}/ns/net"))
            connected.append(socket.create_connection((host, port), timeout_s))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=connect, name=f"dial-{host}", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return connected[0]


def enter_network(namespace: Path) -> None:
    """Move the calling thread into a network namespace (setns(2)); OSError when it may not."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(namespace))
    finally:
        os.close(descriptor)
