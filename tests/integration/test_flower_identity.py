"""What a device is without a registered key, and without a coordinator that hears it: real SuperNodes, no hosts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgefl.federation.loopback import Loopback, node_key
from edgefl.federation.ports import reserve_port

from .conftest import NAMES, federations, site_of

pytestmark = pytest.mark.slow


@contextmanager
def fleet_api(fed: Loopback, device: str) -> Iterator[tuple[Any, bytes]]:
    """Flower's own client of the Fleet API through the gate, with a device's certificate and node key; and that key's bytes."""
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    identity = fed.places(device).identity
    context = ssl.create_default_context(cafile=str(identity / "ca.crt"))
    context.load_cert_chain(identity / "device.crt", identity / "device.key")
    key: Any = load_ssh_private_key((identity / "node.key").read_bytes(), None)
    signed = [RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(key, key.public_key())]
    with FleetHttpClient(f"https://127.0.0.1:{fed.ports['gate']}", interceptors=signed, verify=context) as client:
        yield client, public_key_to_bytes(key.public_key())


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed (apt-get install haproxy)")
def test_a_certificate_without_a_registered_key_gets_nothing_and_makes_no_node(tmp_path: Path, trio: dict[str, Path]) -> None:
    from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, RegisterNodeFleetRequest
    from flwr.proto.node_pb2 import Node

    with federations(tmp_path, trio) as make:
        fed = make(site_of(tmp_path, NAMES[:1], {}), use_gate=True)
        for service in ("edge-1/superexec", "edge-1/supernode"):
            fed.kill(service, signal.SIGTERM)
        fed.wait_until("the device is offline", lambda: not fed.online())
        with fed.control() as control:
            [registered] = control.nodes()
        activate = {"heartbeat_interval": 30.0}
        with fleet_api(fed, "edge-1") as (client, key):
            assert client.ActivateNode(ActivateNodeRequest(public_key=key, **activate)).node_id == registered.node_id
            client.PullMessages(PullMessagesRequest(node=Node(node_id=registered.node_id)))

        node_key(fed.places("edge-1").identity / "node.key")
        with fleet_api(fed, "edge-1") as (client, key):
            for status, call, request in (
                (412, client.RegisterNode, RegisterNodeFleetRequest(public_key=key)),
                (412, client.ActivateNode, ActivateNodeRequest(public_key=key, **activate)),
                (401, client.PullMessages, PullMessagesRequest(node=Node(node_id=registered.node_id))),
            ):
                with pytest.raises(httpx.HTTPStatusError) as refused:
                    call(request)
                assert refused.value.response.status_code == status, refused.value.response.text
        fed.start_device("edge-1")
        assert fed.processes.pop("edge-1/supernode").wait(180) != 0, "its SuperNode ends, and says why"
        assert "or its key is not registered (any more)" in fed.log("edge-1/supernode")
        with fed.control() as control:
            assert [(node.node_id, node.public_key) for node in control.nodes()] == [(registered.node_id, registered.public_key)]


def test_a_supernode_that_nobody_hears_is_ready_but_starves_its_watchdog(tmp_path: Path, trio: dict[str, Path]) -> None:
    fed = Loopback(tmp_path / "loop", site_of(tmp_path, NAMES[:1], {}), trio)
    fed.prepare()
    places = fed.places("edge-1")
    fed_every_s, stale_s, heard = 0.1, 20, list[bytes]()
    with ExitStack() as held, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        nobody, own = reserve_port(held), reserve_port(held)
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(180)
        watched = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(int(fed_every_s * 3e6))}
        command = [sys.executable, "-m", "edgefl.federation.flower.supernode", "--coordinator", f"localhost:{nobody}"]
        command += ["--port", str(own), "--stale-s", str(stale_s)]
        command += ["--config", str(places.config), "--state", str(places.state)]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, env={**os.environ, **watched}, stdout=log, stderr=log)
        try:
            while not any(message.startswith(b"READY=1") for message in heard):
                heard.append(supervisor.recv(200))
            supervisor.settimeout(50 * fed_every_s)
            with suppress(TimeoutError):
                for _ in range(round(4 * stale_s / fed_every_s)):
                    heard.append(supervisor.recv(200))
                raise AssertionError("it is fed, though no heartbeat ever succeeded")
            assert b"WATCHDOG=1" in heard, "for as long as a heartbeat may take it is fed"
            assert process.poll() is None, f"it lives, and that alone is no sign of life: {(tmp_path / 'log').read_text()}"
        finally:
            process.kill()
            process.wait()
