"""Go from this device to its coordinator as its service does, and say how far that leads. Runs as root; leaves nothing behind.

Arguments: the service's user (empty for the one who runs this), the configuration's directory, and the gate's port where
host.json names none. One JSON object as output; steps that were not come to are missing in it.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import pwd
import socket
import ssl
import struct
import sys
import time
from pathlib import Path

PATIENCE_S = 5.0
"""How long an answer is awaited."""
GATE_PATIENCE_S = 20.0
"""How long the gate may look for the SuperLink before it says that there is none."""
_ETH_P_ALL, _PACKET_OUTGOING = 3, 4


class Watch:
    """Sees packets that leave through any interface, after the firewall has let them pass."""

    def __init__(self) -> None:
        try:
            self._socket: socket.socket | None = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
            self._socket.setblocking(False)
        except PermissionError:
            self._socket = None

    def saw(self, address: str, port: int) -> bool | None:
        """Whether TCP to there has left; None when nobody could look."""
        if self._socket is None:
            return None
        wanted = ipaddress.ip_address(address)
        while True:
            try:
                packet, (_, _, kind, *_) = self._socket.recvfrom(128)
            except BlockingIOError:
                return False
            if kind == _PACKET_OUTGOING and _destination(packet) == (wanted, port):
                return True


def _destination(packet: bytes) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int] | None:
    """Address and port that a TCP packet goes to; None for any other."""
    if len(packet) >= 24 and packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
        start = (packet[0] & 15) * 4
        return ipaddress.IPv4Address(packet[16:20]), struct.unpack("!H", packet[start + 2 : start + 4])[0]
    if len(packet) >= 44 and packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_TCP:
        return ipaddress.IPv6Address(packet[24:40]), struct.unpack("!H", packet[42:44])[0]
    return None


def become(user: str) -> None:
    """Drop to the user and its groups, for good."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def walk(config: Path, name: str, port: int) -> dict[str, object]:
    """Step by step, until one leads no further."""
    said: dict[str, object] = {}
    try:
        address = str(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        return {"unresolved": error.strerror or str(error)}
    said["resolved"] = address
    began = time.monotonic()
    try:
        socket.create_connection((address, port), PATIENCE_S).close()
        said["tcp"] = "connected"
    except TimeoutError:
        said["tcp"] = "silent"
    except ConnectionRefusedError:
        said["tcp"] = "refused"
    except OSError as error:
        said["tcp"] = error.strerror or str(error)
    said["tcp_s"] = time.monotonic() - began
    if said["tcp"] == "connected":
        said.update(_shake_hands(config / "identity", name, (address, port)))
    return said


def _shake_hands(identity: Path, name: str, gate: tuple[str, int]) -> dict[str, object]:
    """TLS as the SuperNode does it: the site's authority alone, the coordinator's name checked, the device's certificate."""
    said: dict[str, object] = {}
    try:
        context = ssl.create_default_context(cafile=str(identity / "ca.crt"))
        context.load_cert_chain(identity / "device.crt", identity / "device.key")
    except (OSError, ssl.SSLError) as error:
        return {"identity": f"{type(error).__name__}: {error}"}
    unsure = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unsure.check_hostname, unsure.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(gate, PATIENCE_S) as plain, unsure.wrap_socket(plain) as secure:
            said["shown"] = ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")
    except (OSError, ssl.SSLError) as error:
        said["shown"], said["no_tls"] = "", getattr(error, "reason", None) or str(error)
        return said
    try:
        with socket.create_connection(gate, PATIENCE_S) as plain, context.wrap_socket(plain, server_hostname=name):
            said["verified"] = 0
    except ssl.SSLCertVerificationError as error:
        said["verified"], said["unverified"] = error.verify_code, error.verify_message
        return said
    except (OSError, ssl.SSLError) as error:
        said["verified"], said["unverified"] = -1, getattr(error, "reason", None) or str(error)
        return said
    for step, path in (("entry", "/"), ("link", "/v1/fleet/")):
        said.update(_ask(context, name, gate, step, path))
    return said


def _ask(context: ssl.SSLContext, name: str, gate: tuple[str, int], step: str, path: str) -> dict[str, object]:
    """One request through the gate: its status, or the alert that the gate gave in place of one."""
    connection = http.client.HTTPSConnection(gate[0], gate[1], context=context, timeout=GATE_PATIENCE_S)
    try:
        connection.sock = context.wrap_socket(socket.create_connection(gate, GATE_PATIENCE_S), server_hostname=name)
        connection.request("GET", path, headers={"Host": name})
        answer = connection.getresponse()
        return {step: answer.status, f"{step}_date": answer.getheader("date", ""), f"{step}_at": time.time()}
    except (OSError, http.client.HTTPException):
        return {step: 0, "alert": _alert(context, name, gate)}
    finally:
        connection.close()


def _alert(context: ssl.SSLContext, name: str, gate: tuple[str, int]) -> str:
    """What the gate says of this device's certificate. Nothing is sent after the handshake, so that no reset overtakes it."""
    try:
        with socket.create_connection(gate, PATIENCE_S) as plain, context.wrap_socket(plain, server_hostname=name) as secure:
            secure.recv(1)
    except (OSError, ssl.SSLError) as error:
        return getattr(error, "reason", None) or str(error)
    return ""


def as_user(user: str, config: Path, name: str, port: int) -> dict[str, object]:
    """`walk` in a child that has become the user."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            try:
                if user:
                    become(user)
                said = walk(config, name, port)
            except KeyError:
                said = {"failed": f"there is no user {user}"}
            except Exception as error:  # noqa: BLE001 - what went wrong is what was asked for
                said = {"failed": f"{type(error).__name__}: {error}"}
            os.write(writer, json.dumps(said).encode())
        finally:
            os._exit(0)  # a child must never go on with its parent's code
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(raw or b'{"failed": "it ended without a word"}'))


def neighbour(address: str) -> str:
    """What the kernel knows of the address on the wires of this host: `FAILED`, `REACHABLE`, …; empty for one behind a router."""
    import subprocess

    done = subprocess.run(["ip", "neigh", "show", address], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    words = done.stdout.decode().split()
    return words[-1] if words else ""


def main() -> None:
    """Walk, and say."""
    user, config, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    said: dict[str, object] = {"node_key": "", "user": user}
    try:
        said["node_key"] = (config / "identity" / "node.pub").read_text().strip()
        coordinator = json.loads((config / "host.json").read_text())["coordinator"]
        name, port = coordinator["address"], coordinator.get("port", port)
        said.update(address=name, port=port)
    except (OSError, ValueError, KeyError) as error:
        said["failed"] = f"{type(error).__name__}: {error}"
    else:
        watch = Watch()
        said.update(as_user(user, config, name, port))
        if said.get("tcp", "connected") != "connected":
            said["left"] = watch.saw(str(said["resolved"]), port)
            said["neighbour"] = neighbour(str(said["resolved"]))
    sys.stdout.write(json.dumps(said) + "\n")


main()
