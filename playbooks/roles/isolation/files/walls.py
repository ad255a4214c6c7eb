#!/usr/bin/python3
"""Keep this host's walls as they were laid down, and write down when they were not.

Runs as root with CAP_NET_ADMIN and no other capability; standard library alone, any Python from 3.9 on. The kernel says when any
rule changes, so a firewall that is flushed is whole again at once; the rest is looked at every LOOK_S. What was found lies in the
spool for whoever brings it to the coordinator: on a device the SuperNode, which alone holds the identity.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from datetime import datetime, timezone

LOOK_S = 20.0
QUIET_S = 60.0
"""One report in this time at most: whoever fights over the rules must not fill the disk."""
MOST_REPORTS = 20
"""What may lie in the spool while nobody fetches it."""
MOST_LOADS = 10
"""So often the rules are loaded until nobody else changes any in that moment."""
UNCONFIRMED_S = 600.0
"""An operator's change is confirmed or undone long before; what lies there longer was forgotten."""
RULESET = "/etc/edgefl/firewall.nft"
UNCONFIRMED = RULESET + ".unconfirmed"
LIST = ("/usr/sbin/nft", "--stateless", "list", "table", "inet", "edgefl")
HARDENING = "/etc/systemd/system/edgefl-.service.d/hardening.conf"
KEPT = "/etc/edgefl/hardening.conf"
AT_BOOT = "/etc/systemd/system/sysinit.target.wants/nftables-edgefl.service"
UNITS = ("/etc/systemd/system", "/run/systemd/system", "/etc/systemd/system.control", "/run/systemd/system.control")
CHAINS = ("/usr/sbin/nft", "--json", "list", "chains")
HOOKS = "/var/lib/walls-edgefl/hooks"
"""The hooks of other tables that are known: what this host has beside edgefl, and what was told."""
SPOOL = "/var/spool/edgefl"
ALIVE = "alive"
"""In the spool, made anew at every look: whoever brings reports to the coordinator brings word of its age, too."""
METRICS = "walls.prom"
"""In the spool, where `--metrics` asks for it: what this host's own node_exporter tells of its walls."""
PACE = {"Restart", "RestartSec", "KillMode", "TimeoutStopSec", "TasksMax", "StartLimitIntervalSec"}
"""What the hardening says of a unit's life: a drop-in may say otherwise without opening anything."""
OPENING = {"IPAddressAllow", "User", "Group", "DynamicUser", "PermissionsStartOnly", "RootDirectory", "BindPaths"}
"""What a drop-in could open a unit by beside what the hardening closes."""
ECS = "9.3.0"
"""The version of the Elastic Common Schema that its lines are of, as the other services'."""
PRIORITIES = {"error": 3, "warning": 4}
LONGEST = 8192
_NETLINK_NETFILTER, _NFTABLES_GROUP = 12, 7
_NFT_GETGEN, _NLM_F_REQUEST = 10 << 8 | 16, 1


class Failed(Exception):
    """A command of the system ended badly; the text is its own last words."""


def run(*argv: str) -> str:
    """A command's output. Raises Failed."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise Failed(f"{' '.join(argv[:3])}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def generation() -> int:
    """How often the rules of this network namespace were changed, whoever did it (NFT_MSG_GETGEN). Raises Failed."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asked:
            asked.settimeout(10)
            asked.send(struct.pack("=IHHIIBBH", 20, _NFT_GETGEN, _NLM_F_REQUEST, 0, 0, 0, 0, 0))
            answer = asked.recv(4096)
        return struct.unpack_from(">I", answer, 24)[0]  # behind both headers and its attribute's own
    except (OSError, struct.error) as error:
        raise Failed(f"the kernel does not say how often its rules were changed: {error}") from error


class Firewall:
    """The table `inet edgefl`, compared with what the file on disk loads as: the kernel itself says what that is."""

    def __init__(self, ruleset: str = RULESET, unconfirmed: str = UNCONFIRMED) -> None:
        self.ruleset, self.unconfirmed = ruleset, unconfirmed
        self.meant = ("", "")
        """The file's SHA-256 and what the kernel listed after loading it."""

    def live(self) -> str:
        """The table as the kernel has it, without counters; empty when there is none."""
        try:
            return run(*LIST)
        except Failed:
            return ""

    def is_being_changed(self) -> bool:
        """Whether an operator has just applied other rules and must still confirm that they let him through."""
        try:
            return time.time() - os.stat(self.unconfirmed).st_mtime < UNCONFIRMED_S
        except OSError:
            return False

    def heal(self) -> list[str]:
        """Load the file where the live table is not what it means; what was wrong. Raises Failed."""
        if self.is_being_changed():
            return []
        try:
            with open(self.ruleset, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise Failed(f"{self.ruleset}: {error.strerror}") from error
        live = self.live()
        if self.meant == (digest, live):
            return []
        self.meant = (digest, self.loaded())
        if self.meant[1] == live:
            return []  # it was another file, or nothing was known yet
        return ["the firewall's rules were gone" if not live else "the firewall's rules were changed"]

    def loaded(self) -> str:
        """What the file means, now that it is loaded; nobody's change in that moment is taken for it. Raises Failed."""
        for _ in range(MOST_LOADS):
            before = generation()
            run(LIST[0], "--file", self.ruleset)
            listed = self.live()
            if generation() == before + 1:
                return listed
        raise Failed("somebody changes the firewall's rules whenever they are loaded")


class Hardening:
    """What systemd holds edgefl's units to: the prefix drop-in as it was laid down, and none that loosens it."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def at(self, path: str) -> str:
        """A path on this host."""
        return os.path.join(self.root, path.lstrip("/"))

    def drift(self) -> list[tuple[str, str]]:
        """(what is wrong, the file that it is about): the drop-in itself, those that loosen it, the walls' start at boot."""
        kept = _read(self.at(KEPT))
        if kept is None:
            return []
        found = []
        if (there := _read(self.at(HARDENING))) != kept:
            what = "the hardening of edgefl's units was " + ("removed" if there is None else "changed")
            found.append((what, self.at(HARDENING)))
        guarded = (keys(kept) - PACE) | OPENING
        for directory in UNITS:
            for path in sorted(glob.glob(self.at(directory) + "/edgefl-*.service.d/*.conf")):
                if path != self.at(HARDENING) and (loosened := keys(_read(path) or "") & guarded):
                    unit = os.path.basename(os.path.dirname(path))[: -len(".d")]
                    found.append((f"a drop-in of {unit} set {', '.join(sorted(loosened))}", path))
        if not os.path.islink(self.at(AT_BOOT)):
            found.append(("the firewall was not to be loaded at boot", self.at(AT_BOOT)))
        return found

    def heal(self) -> list[str]:
        """Put right what is wrong twice in a row (an operator's own change takes two writes); what was wrong. Raises Failed."""
        if not self.drift():
            return []
        time.sleep(1)
        found = self.drift()
        since = [self.put_right(path) for _, path in found]
        if found:
            run("/usr/bin/systemctl", "daemon-reload")
            # What was started without its walls has none until it is started again; what ran before keeps its own.
            if young := [unit for unit, started in _started() if started >= min(since)]:
                run("/usr/bin/systemctl", "try-restart", "--no-block", *young)
        return [what for what, _ in found]

    def put_right(self, path: str) -> float:
        """Undo one finding; since when it may have been so, in seconds of the wall clock."""
        try:
            since = os.lstat(path).st_mtime
        except OSError:
            since = _changed(os.path.dirname(path))
        if path == self.at(HARDENING):
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with open(path + ".edgefl-new", "w") as file:
                file.write(_read(self.at(KEPT)) or "")
            laid = os.stat(self.at(KEPT))
            os.chmod(path + ".edgefl-new", 0o644)
            os.utime(path + ".edgefl-new", ns=(laid.st_atime_ns, laid.st_mtime_ns))  # else services would count as older than it
            os.replace(path + ".edgefl-new", path)
        elif path == self.at(AT_BOOT):
            run("/usr/bin/systemctl", "enable", "--quiet", "nftables-edgefl.service")
            return time.time()
        else:
            os.replace(path, path + ".drift")  # systemd reads *.conf alone; whoever wrote it can read it still
        return since


class Strangers:
    """What other tables have of hooks into the kernel's ways. They are the host's, not edgefl's to undo; new ones are told."""

    def __init__(self, known: str = HOOKS) -> None:
        self.path = known

    def news(self) -> list[str]:
        """The tables that have hooks which were not known; they are from now on. Raises Failed and OSError."""
        there, known = self.there(), _read(self.path)
        before = set(there if known is None else known.splitlines())  # what it finds first, the host had before
        if known is None or before != set(there):
            with open(self.path + ".new", "w") as file:
                file.write("\n".join(there))
            os.replace(self.path + ".new", self.path)
        tables: dict = {}
        for hook in there:
            if hook not in before:
                table, _, chain = hook.partition(": ")
                tables.setdefault(table, []).append(chain)
        return [f"the table {table} got hooks of its own: {', '.join(chains)}"[:300] for table, chains in tables.items()]

    def there(self) -> list[str]:
        """Every hook but edgefl's, as `ip nat: prerouting (nat, prerouting -100)`."""
        listed = [entry["chain"] for entry in json.loads(run(*CHAINS))["nftables"] if "hook" in entry.get("chain", {})]
        return sorted(
            "{family} {table}: {name} ({type}, {hook} {prio})".format(**chain)
            for chain in listed
            if (chain["family"], chain["table"]) != ("inet", "edgefl")
        )


def keys(text: str) -> set[str]:
    """The settings that a unit file's text has."""
    lines = (line.strip() for line in text.splitlines())
    return {line.partition("=")[0].strip() for line in lines if "=" in line and not line.startswith(("#", ";", "["))}


class Spool:
    """Where reports wait to be fetched."""

    def __init__(self, directory: str = SPOOL) -> None:
        self.directory = directory
        self.said = -QUIET_S
        self.unsaid: dict = {}
        self.drifted = 0.0
        """When something was found last, in seconds of the wall clock."""
        self.is_scraped = False

    def note(self, found: list[str], healed: bool, seconds: float) -> None:
        """Something was found; what was found already and is not written down yet is told with it."""
        self.drifted = time.time()
        if not self.unsaid:
            self.unsaid = {"found": [], "healed": True, "seconds": 0.0, "times": 0, "at": _now()}
        both = self.unsaid["found"] + [what for what in found if what not in self.unsaid["found"]]
        times = self.unsaid["times"] + 1
        seconds = max(seconds, self.unsaid["seconds"])
        self.unsaid.update(found=both[:20], healed=healed, seconds=round(seconds, 3), times=times)

    def write(self, now: float) -> None:
        """Write down what was noted, if it is time for another report. now: monotonic."""
        if not self.unsaid or now - self.said < QUIET_S or len(os.listdir(self.directory)) >= MOST_REPORTS:
            return
        name = os.path.join(self.directory, f"{time.time_ns()}")
        with open(name + ".new", "w") as file:
            json.dump(self.unsaid, file)
        os.chmod(name + ".new", 0o640)
        os.replace(name + ".new", name + ".json")
        self.said, self.unsaid = now, {}

    def be_alive(self) -> None:
        """A sign of life, and the same for Prometheus where it asks."""
        self.lay(ALIVE)
        if self.is_scraped:
            looked = gauge("edgefl_walls_look_timestamp_seconds", "When the walls were looked at last.", time.time())
            self.lay(
                METRICS, looked + gauge("edgefl_walls_drift_timestamp_seconds", "When they were not whole last.", self.drifted)
            )

    def lay(self, name: str, text: str = "") -> None:
        """Put a file there anew. Others write in this directory: nothing of theirs is followed or opened."""
        path = os.path.join(self.directory, name)
        with contextlib.suppress(OSError):  # a disk that is full ends the signs, not the watch
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + ".new")
            with open(os.open(path + ".new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640), "w") as file:
                file.write(text)
            os.replace(path + ".new", path)


def gauge(name: str, means: str, value: float) -> str:
    """A metric as node_exporter reads it from a file."""
    return f"# HELP {name} {means}\n# TYPE {name} gauge\n{name} {value:.3f}\n"


def look(firewall: Firewall, hardening: Hardening, strangers: Strangers, spool: Spool) -> None:
    """Look at everything once, heal it, and note what was wrong."""
    began = time.monotonic()
    looked = [healed(firewall), healed(hardening), noticed(strangers)]
    if found := [what for wrong, _ in looked for what in wrong]:
        well = all(right for _, right in looked)
        spool.note(found, well, time.monotonic() - began)
        say("warning" if well else "error", f"{'healed' if well else 'NOT healed'}: {'; '.join(found)}")
    spool.write(time.monotonic())
    spool.be_alive()


def say(level: str, message: str) -> None:
    """A line for journald, as the other services write theirs: its priority (sd-daemon(3)), then fields of ECS as JSON."""
    said = {"@timestamp": _now(), "log.level": level, "log.logger": "walls", "message": message[:LONGEST], "ecs.version": ECS}
    sys.stdout.write(f"<{PRIORITIES[level]}>{json.dumps(said, ensure_ascii=False)}\n")
    sys.stdout.flush()


def noticed(strangers: Strangers) -> tuple[list[str], bool]:
    """What came beside the walls; nothing of that is healed here."""
    try:
        found = strangers.news()
    except (Failed, OSError, ValueError, KeyError) as failure:
        found = [f"other tables cannot be looked at: {failure}"]
    return found, not found


def healed(wall: Firewall | Hardening) -> tuple[list[str], bool]:
    """What was wrong with a wall, and whether it is right again."""
    try:
        return wall.heal(), True
    except (Failed, OSError) as failure:
        return [f"not healed: {failure}"], False


def watch() -> socket.socket:
    """A socket that becomes readable when any rule of this host's firewall changes."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    opened.setblocking(False)
    opened.bind((0, 1 << (_NFTABLES_GROUP - 1)))
    return opened


def drain(watched: socket.socket) -> None:
    """Take what the kernel said; that it said something is all that counts, and so is that it said too much."""
    while select.select([watched], [], [], 0)[0]:
        with contextlib.suppress(OSError):  # ENOBUFS: some of it was lost
            watched.recv(1 << 16)


def notify(said: str) -> None:
    """A word to systemd (sd_notify(3))."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(said.encode(), "\0" + address[1:] if address.startswith("@") else address)


def main() -> None:
    """Look, for ever."""
    firewall, hardening, strangers, spool = Firewall(), Hardening(), Strangers(), Spool()
    spool.is_scraped = "--metrics" in sys.argv[1:]
    watched = watch()
    look(firewall, hardening, strangers, spool)
    notify("READY=1")
    while True:
        select.select([watched], [], [], LOOK_S)
        drain(watched)
        look(firewall, hardening, strangers, spool)
        notify("WATCHDOG=1")


def _started() -> list[tuple[str, float]]:
    """Every running unit of edgefl's, with when its main process began, in seconds of the wall clock."""
    booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    shown = run("/usr/bin/systemctl", "show", "--property=Id,ExecMainStartTimestampMonotonic", "edgefl-*.service")
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n") if block]
    return [(block["Id"], booted + int(block["ExecMainStartTimestampMonotonic"]) / 1e6) for block in blocks]


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _changed(directory: str) -> float:
    try:
        return os.stat(directory).st_mtime
    except OSError:
        return 0.0


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


if __name__ == "__main__":
    sys.exit(main())
