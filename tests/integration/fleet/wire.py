"""Two network namespaces on one wire, with real firewalls, and the probe at work in them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgefl.fleet.remote import program

HERE, THERE = "10.99.0.1", "10.99.0.2"
LISTENER = 47443


@dataclass(frozen=True)
class Namespace:
    """One network namespace with mounts of its own, held by a process."""

    pid: int

    def run(self, *argv: str, given: str = "") -> None:
        subprocess.run([*self.inside(), *argv], input=given, text=True, check=True, capture_output=True)

    def inside(self) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-n", "-m"]

    def firewall(self, hook: str, rule: str) -> None:
        chain = f"chain edgefl {{\ntype filter hook {hook} priority 0;\n{rule}\n}}"
        self.run("nft", "-f", "-", given=f"flush ruleset\ntable inet edgefl {{\n{chain}\n}}\n")


class Talk:
    """A probe at work in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        source = program("probe")
        start = f"import sys; exec(compile(sys.stdin.buffer.read({len(source)}), 'probe', 'exec'))"
        self.process = subprocess.Popen(
            [*namespace.inside(), "python3", "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._write(source)
        self.said = self.ask({"listen": LISTENER, "patience_s": 0})

    def ask(self, what: object) -> object:
        self._write(json.dumps(what).encode() + b"\n")
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def _write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()


@contextmanager
def talking(namespace: Namespace) -> Iterator[Talk]:
    talk = Talk(namespace)
    try:
        yield talk
    finally:
        talk.process.stdin.close()  # type: ignore[union-attr]
        talk.process.stdout.close()  # type: ignore[union-attr]
        assert talk.process.wait(60) == 0


@contextmanager
def wired() -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts on one wire."""
    with held() as here, held() as there:
        here.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(there.pid))
        for namespace, address in ((here, HERE), (there, THERE)):
            namespace.run("ip", "addr", "add", f"{address}/24", "dev", "wire")
            namespace.run("ip", "link", "set", "wire", "up")
        yield here, there


@contextmanager
def held() -> Iterator[Namespace]:
    """A host on no wire yet."""
    command = ["unshare", "--net", "--mount", "sh", "-c", "echo; exec sleep 300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            holder.stdout.readline()  # it is in its namespace now
            host = Namespace(holder.pid)
            host.run("ip", "link", "set", "lo", "up")
            yield host
        finally:
            holder.kill()


def probe_all(namespace: Namespace, paths: list[dict[str, object]]) -> dict[object, tuple[str, str]]:
    """What each path shows and by what evidence, by its id."""
    with talking(namespace) as talk:
        said = talk.ask(paths)
        talk.ask("stop")
    return {one["id"]: (one["observed"], one["evidence"]) for one in said}  # type: ignore[attr-defined]


def probe(namespace: Namespace, **path: object) -> tuple[str, str]:
    """The same of one path."""
    asked = {"id": "x", "user": "nobody", "protocol": "tcp", "address": THERE, "port": LISTENER, "expected": "closed", **path}
    return probe_all(namespace, [asked])["x"]
