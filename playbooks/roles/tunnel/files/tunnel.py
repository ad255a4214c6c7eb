#!/usr/bin/python3
"""Keep this host's end of the tunnel up: the kernel's WireGuard, or wireguard-go where the kernel has none.

Runs as edgefl-tunnel with CAP_NET_ADMIN and no other capability; standard library alone, any Python from 3.9 on. Who is at the
other ends stands in tunnel.json, which is read again whenever it changes: who joins or leaves disturbs nobody else.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

CONFIG = "/etc/edgefl/tunnel.json"
KEY = "/etc/edgefl/identity/tunnel.key"
BY = "/run/tunnel-edgefl/by"
"""Says which WireGuard it is, `kernel` or `userspace`."""
SOCKETS = "/run/wireguard"
"""Where wireguard-go and `wg` find each other."""
LOOK_S = 2.0
KEEPALIVE_S = 25
"""A NAT forgets a silent way after 30 s or more."""
_STARTS_WITHIN_S = 10.0


class Failed(Exception):
    """A command of the system ended badly; the text is its own last words."""


def run(*argv: str, stdin: str = "") -> str:
    """A command's output. Raises Failed."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise Failed(f"{' '.join(argv[:3])}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def read(path: str) -> str:
    """A file's text. Raises Failed."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error


def settings(told: dict, key: str) -> str:
    """What tunnel.json says, in the words of `wg syncconf`: each end sends from its one address, and is sent to at no other."""
    lines = ["[Interface]", f"PrivateKey = {key.strip()}"]
    lines += [f"ListenPort = {told['port']}"] if not told.get("endpoint") else []
    lines += [f"FwMark = {told['mark']}"] if told.get("mark") else []
    for peer in told["peers"].values():
        lines += ["[Peer]", f"PublicKey = {peer['public_key']}", f"AllowedIPs = {peer['address']}/32"]
        if told.get("endpoint"):
            host = f"[{told['endpoint']}]" if ":" in told["endpoint"] else told["endpoint"]
            lines += [f"Endpoint = {host}:{told['port']}", f"PersistentKeepalive = {KEEPALIVE_S}"]
    return "\n".join(lines) + "\n"


class End:
    """The interface of this host. child: wireguard-go, where the kernel has no WireGuard."""

    def __init__(self, told: dict) -> None:
        self.name, self.address = told["interface"], told["address"]
        self.child: subprocess.Popen | None = None

    def make(self) -> None:
        """Have the interface. Raises Failed."""
        with contextlib.suppress(Failed):  # one that a killed predecessor left
            run("ip", "link", "delete", self.name)
        try:
            run("ip", "link", "add", self.name, "type", "wireguard")
        except Failed as failure:
            self.make_without_the_kernel(str(failure))
        with open(BY, "w") as file:
            file.write("userspace\n" if self.child else "kernel\n")

    def make_without_the_kernel(self, why: str) -> None:
        """Start wireguard-go, and wait until it can be told what to do. Raises Failed."""
        quietly = {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}  # as by `--foreground`, but for a box of advice in the log
        try:
            self.child = subprocess.Popen(["wireguard-go", self.name], env={**os.environ, **quietly})
        except OSError as error:
            raise Failed(f"the kernel has no WireGuard ({why}), and wireguard-go does not start: {error}") from error
        path, gives_up = f"{SOCKETS}/{self.name}.sock", time.monotonic() + _STARTS_WITHIN_S
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(path):
                if self.rest(0.05) is not None or time.monotonic() > gives_up:
                    raise Failed(f"the kernel has no WireGuard ({why}), and wireguard-go does not start")

    def follow(self, told: dict, key: str) -> None:
        """Have the ends that tunnel.json names, and no others; those that stay are not disturbed. Raises Failed."""
        run("wg", "syncconf", self.name, "/dev/stdin", stdin=settings(told, key))
        run("ip", "address", "replace", f"{self.address}/32", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        wanted = {peer["address"] for peer in told["peers"].values()}
        there = {route["dst"] for route in json.loads(run("ip", "-json", "-4", "route", "show", "dev", self.name) or "[]")}
        for address in sorted(there - wanted):
            run("ip", "route", "delete", address, "dev", self.name)
        for address in sorted(wanted - there):
            run("ip", "route", "replace", f"{address}/32", "dev", self.name)

    def close(self) -> None:
        """Leave no interface: wireguard-go's goes with it, the kernel's by itself never."""
        if self.child is not None:
            self.child.terminate()
            self.child.wait()
        else:
            with contextlib.suppress(Failed):
                run("ip", "link", "delete", self.name)

    def rest(self, seconds: float) -> int | None:
        """Wait; at most until wireguard-go has ended, whose status it then is."""
        if self.child is None:
            time.sleep(seconds)
            return None
        descriptor = os.pidfd_open(self.child.pid)
        try:
            select.select([descriptor], [], [], seconds)
        finally:
            os.close(descriptor)
        return self.child.poll()


def notify(said: str) -> None:
    """A word to systemd (sd_notify(3))."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(said.encode(), "\0" + address[1:] if address.startswith("@") else address)


def keep(end: End, text: str) -> str:
    """Keep the end up, first as this text of tunnel.json says; why it can go on no more. Raises Failed."""
    end.make()
    end.follow(json.loads(text), read(KEY))
    notify(f"READY=1\nSTATUS={'wireguard-go: this kernel has no WireGuard' if end.child else 'WireGuard of the kernel'}")
    while True:
        status = end.rest(LOOK_S)
        if status is not None:
            return f"wireguard-go ended with status {status}"
        if (now := read(CONFIG)) != text:
            text, told = now, json.loads(now)
            if (told["interface"], told["address"]) != (end.name, end.address):
                return "this host has another address in the tunnel"
            end.follow(told, read(KEY))
        notify("WATCHDOG=1")


def main() -> int:
    """Until a signal ends it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        text = read(CONFIG)
        with contextlib.closing(End(json.loads(text))) as end:
            sys.stderr.write(keep(end, text) + "\n")
    except (Failed, ValueError, KeyError) as failure:
        sys.stderr.write(f"{failure!r}\n" if isinstance(failure, KeyError) else f"{failure}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
