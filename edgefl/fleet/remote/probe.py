"""Try paths from this host as the users who might, and say which are open. Runs as root on the host; leaves nothing behind.

A conversation by lines of JSON: says it is ready, takes the probes, answers with what it saw, and on the next line says who
connected to it meanwhile. A path counts as open when it answers, as refused when the peer says that nobody listens, and as
leaking when a packet is seen leaving the host although nobody answers: a firewall's drop is told from a silent destination.
Where the site allows a path, one that leads to nobody is unanswered instead; it is closed only when this host turns it back.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import select
import socket
import struct
import sys
import time

SETTLE_S = 1.5
"""How long an answer is awaited."""
_ETH_P_ALL, _SOL_PACKET, _PACKET_OUTGOING, _PACKET_STATISTICS, _SO_ATTACH_FILTER = 3, 263, 4, 6, 26
_NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_QUERY = bytes.fromhex("ed9e01000001000000000000076578616d706c6503636f6d0000010001")
"""A DNS query for example.com."""


class Sniffer:
    """Sees every packet that leaves through any interface, after the firewall has let it pass."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.setblocking(False)
        self._only_outgoing()
        self.seen: set[tuple[int, str, int, int]] = set()

    def _only_outgoing(self) -> None:
        """Let the kernel drop what arrives: load the packet's type, keep PACKET_OUTGOING."""
        code = [(0x28, 0, 0, 0xFFFFF004), (0x15, 0, 1, _PACKET_OUTGOING), (0x06, 0, 0, 128), (0x06, 0, 0, 0)]
        import ctypes

        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(code), ctypes.addressof(program)))

    def read(self) -> None:
        """Take in what has left so far."""
        while True:
            try:
                data, _ = self.socket.recvfrom(128)
            except BlockingIOError:
                return
            if key := parse(data):
                self.seen.add(key)

    def lost(self) -> int:
        """Packets that the kernel could not hand over; then what was not seen proves nothing."""
        return int(struct.unpack("II", self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1])


def parse(packet: bytes) -> tuple[int, str, int, int] | None:
    """Protocol, destination, its port, the source's port (an echo's identifier) of an IP packet; None for anything else."""
    if len(packet) < 28:
        return None
    if packet[0] >> 4 == 4:
        protocol, destination, rest = packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20]), packet[(packet[0] & 15) * 4 :]
    elif packet[0] >> 4 == 6 and len(packet) >= 48:
        protocol, destination, rest = packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40]), packet[40:]
    else:
        return None
    if protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6):
        return (protocol, destination, 0, struct.unpack("!H", rest[4:6])[0]) if len(rest) >= 6 else None
    source, port = struct.unpack("!HH", rest[:4])
    return protocol, destination, port, source


def become(user: str) -> None:
    """Drop to the user and its groups, for good."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


class Attempt:
    """One try of one path; `outcome` is `connected`, `refused`, `silent`, or an errno's name."""

    def __init__(self, probe: dict[str, str]) -> None:
        self.probe = probe
        self.outcome = "silent"
        self.family = socket.AF_INET6 if ":" in probe["address"] else socket.AF_INET
        self.socket: socket.socket | None = None
        self.key = (0, "", 0, 0)

    def start(self) -> None:
        """Send the first packet."""
        protocol, port = self.probe["protocol"], int(self.probe["port"])
        try:
            if protocol == "tcp":
                self._open(socket.SOCK_STREAM, socket.IPPROTO_TCP, port)
            elif protocol == "udp":
                self._open(socket.SOCK_DGRAM, socket.IPPROTO_UDP, port).send(_QUERY)
            else:
                echo, number = (128, socket.IPPROTO_ICMPV6) if self.family == socket.AF_INET6 else (8, socket.IPPROTO_ICMP)
                self._open(socket.SOCK_DGRAM, number, 0).send(struct.pack("!BBHHH", echo, 0, 0, 0, 1))
        except OSError as error:
            self._failed(error.errno or 0)

    def _open(self, kind: int, protocol: int, port: int) -> socket.socket:
        opened = socket.socket(self.family, kind, protocol)
        self.socket = opened
        opened.setblocking(False)
        opened.bind(("", 0))
        self.key = (protocol, self.probe["address"], port, opened.getsockname()[1])
        code = opened.connect_ex((self.probe["address"], port))
        if code == 0 and kind == socket.SOCK_STREAM:
            self.outcome = "connected"
        elif code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        return opened

    def settle(self) -> None:
        """Take the answer that select saw."""
        if self.socket is None:
            return
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(code)
        else:
            self.outcome = "connected"

    def _failed(self, code: int) -> None:
        self.outcome = (
            "refused" if code == errno.ECONNREFUSED else "no route" if code in _NO_ROUTE else errno.errorcode.get(code, "?")
        )

    @property
    def is_turned_back(self) -> bool:
        """Whether this host itself said no (or a router on the way; or, after 3 s, nobody had the address on the own wire)."""
        return self.outcome not in ("connected", "refused", "silent", "no route")

    @property
    def is_pending(self) -> bool:
        """Whether an answer may still come."""
        return self.socket is not None and self.outcome == "silent"


def attempt_all(probes: list[dict[str, str]], patience_s: float) -> list[dict[str, object]]:
    """Try all paths at once; those that must be open again and again while patience lasts (a service may be starting).

    An allowed path that was turned back is tried once more: a wall does so each time, a search for a neighbour begins anew.
    """
    last: dict[str, Attempt] = {}
    wanted = probes
    deadline = time.monotonic() + patience_s
    while wanted:
        round_ = [Attempt(probe) for probe in wanted]
        for attempt in round_:
            attempt.start()
            last[attempt.probe["id"]] = attempt
        _settle(round_)
        closed = [a.probe for a in round_ if a.probe["expected"] == "open" and a.outcome != "connected"]
        again = [a.probe for a in round_ if a.probe["expected"] == "allowed" and a.is_turned_back] if wanted is probes else []
        wanted = again + (closed if time.monotonic() < deadline else [])
        if wanted:
            time.sleep(0.2)  # between two tries of a path
    return [{"id": name, "outcome": attempt.outcome, "key": attempt.key} for name, attempt in last.items()]


def _settle(attempts: list[Attempt]) -> None:
    end = time.monotonic() + SETTLE_S
    while (pending := [a for a in attempts if a.is_pending]) and (left := end - time.monotonic()) > 0:
        sockets = [(a.probe["protocol"], a.socket) for a in pending if a.socket is not None]
        streams = [one for protocol, one in sockets if protocol == "tcp"]
        others = [one for protocol, one in sockets if protocol != "tcp"]
        readable, writable, _ = select.select(others, streams, [], left)
        for attempt in pending:
            if attempt.socket in readable or attempt.socket in writable:
                attempt.settle()


def probe_as(user: str, probes: list[dict[str, str]], patience_s: float) -> tuple[int, int]:
    """Start a child that probes as the user; its process and the pipe with its results."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    status = 1
    try:
        os.close(reader)
        try:
            become(user)
            said: list[dict[str, object]] = attempt_all(probes, patience_s)
        except (OSError, KeyError) as error:
            reason = f"there is no user {user}" if isinstance(error, KeyError) else str(error)
            said = [{"id": probe["id"], "outcome": "error", "key": None, "error": reason} for probe in probes]
        with os.fdopen(writer, "w") as pipe:
            json.dump(said, pipe)
        status = 0
    finally:
        os._exit(status)  # a child must never go on with its parent's code


def judge(outcome: str, left: bool, expected: str) -> tuple[str, str]:
    """What an attempt shows, and by what evidence."""
    if outcome == "connected":
        return "open", "answered"
    if expected == "allowed" and (left or outcome in ("silent", "no route")):
        # The other side is not this site's: that no wall of this host stands in the way is all there is to see.
        return "unanswered", "nobody listens" if outcome == "refused" else "no route" if outcome == "no route" else "no answer"
    if outcome == "refused":
        return ("refused", "the peer answered that nobody listens") if left else ("closed", "refused here")
    if left:
        return "leaking", "left the host without an answer"
    if outcome == "no route":
        return "closed", "no route"
    if outcome == "EACCES":
        return "closed", "not permitted"
    return "closed", "dropped here" if outcome in ("silent", "EPERM") else outcome


def probe(probes: list[dict[str, str]], patience_s: float) -> list[dict[str, object]]:
    """Run the probes, each as its user, and match them with what was seen leaving."""
    sniffer = Sniffer()
    users = sorted({one["user"] for one in probes})
    children = [probe_as(user, [one for one in probes if one["user"] == user], patience_s) for user in users]
    open_pipes = {reader: b"" for _, reader in children}
    pending = set(open_pipes)
    while pending:
        sniffing = sniffer.socket.fileno()
        for ready in select.select([sniffing, *pending], [], [])[0]:
            if ready == sniffing:
                sniffer.read()
            elif part := os.read(ready, 65536):
                open_pipes[ready] += part
            else:
                pending.discard(ready)
    for child, reader in children:
        os.close(reader)
        os.waitpid(child, 0)
    sniffer.read()
    lost = sniffer.lost()
    expected = {one["id"]: one["expected"] for one in probes}
    results = []
    for said in (one for raw in open_pipes.values() for one in json.loads(raw or b"[]")):
        observed, evidence = judge(
            said["outcome"], said["key"] is not None and tuple(said["key"]) in sniffer.seen, expected[said["id"]]
        )
        if said["outcome"] == "error":
            observed, evidence = "unknown", said["error"]
        elif lost and observed == "closed":
            observed, evidence = "unknown", f"{lost} packets were not seen"
        results.append({"id": said["id"], "observed": observed, "evidence": evidence})
    return results


def addresses6() -> list[str]:
    """The host's own IPv6 addresses that others could reach, without the link-local ones."""
    try:
        with open("/proc/net/if_inet6") as lines:  # noqa: PTH123 - a plain read
            fields = [line.split() for line in lines]
    except OSError:
        return []
    return [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(field[0])) for field in fields if field[3] == "00"]


def listen(port: int) -> list[socket.socket]:
    """Listen for as long as the probes run, so that an open path to this host really connects."""
    listeners = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(("", port))
            one.listen(128)
        except OSError:
            continue  # no IPv6 here, or the port is taken: then whoever has it listens
        one.setblocking(False)
        listeners.append(one)
    return listeners


def accepted(listeners: list[socket.socket]) -> list[str]:
    """The addresses that connected."""
    callers = set()
    for one in listeners:
        while True:
            try:
                connection, peer = one.accept()
            except OSError:
                break
            callers.add(peer[0])
            connection.close()
    return sorted(callers)


def say(what: object) -> None:
    """One line to the operator."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Hold the conversation."""
    asked = json.loads(sys.stdin.buffer.readline())
    listeners = listen(asked["listen"])
    say({"addresses6": addresses6()})
    line = sys.stdin.buffer.readline()
    if not line:
        return
    say(probe(json.loads(line), asked["patience_s"]))
    sys.stdin.buffer.readline()
    say(accepted(listeners))


main()
