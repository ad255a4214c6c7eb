"""The isolation role's watcher on a real firewall: told by the kernel it heals at once, and leaves an operator's change alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgefl.share import share

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="network namespaces and nft need root")

PROGRAM = share("playbooks") / "roles" / "isolation" / "files" / "walls.py"
RULES = """\
table inet edgefl
delete table inet edgefl
table inet edgefl {
  chain output {
    type filter hook output priority filter; policy drop;
    oif "lo" accept
    counter
  }
}
"""
LOADED = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("walls", sys.argv[1])
walls = importlib.util.module_from_spec(spec)
spec.loader.exec_module(walls)
folder = sys.argv[2]
"""
SLIPPED = (
    LOADED
    + """\
run, left = walls.run, int(sys.argv[3])
def slips(*argv):
    global left
    said = run(*argv)
    if "--file" in argv and left:
        left -= 1
        run("nft", "add", "rule", "inet", "edgefl", "output", "accept")
    return said
walls.run = slips
firewall = walls.Firewall(folder + "/firewall.nft", folder + "/firewall.nft.unconfirmed")
print(firewall.heal(), firewall.heal())
"""
)
START = (
    LOADED
    + """\
walls.LOOK_S, walls.QUIET_S = float(sys.argv[3]), 0.0
firewall, hardening, spool = walls.Firewall, walls.Hardening, walls.Spool
walls.Firewall = lambda: firewall(folder + "/firewall.nft", folder + "/firewall.nft.unconfirmed")
walls.Hardening = lambda: hardening(folder)
walls.Spool = lambda: spool(folder + "/spool")
strangers = walls.Strangers
walls.Strangers = lambda: strangers(folder + "/hooks")
walls.main()
"""
)


class Host:
    """A network namespace with the role's rules in it, and a folder for the rest of a host."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder, self.pid = folder, pid
        (folder / "spool").mkdir()
        (folder / "firewall.nft").write_text(RULES)
        self.nft("-f", str(folder / "firewall.nft"))

    def nft(self, *argv: str) -> str:
        command = ["nsenter", "-t", str(self.pid), "-n", "nft", *argv]
        return subprocess.run(command, text=True, check=True, capture_output=True).stdout

    def rules(self) -> str:
        return self.nft("--stateless", "list", "ruleset")

    def reports(self) -> list[dict[str, object]]:
        return [json.loads(path.read_text()) for path in sorted((self.folder / "spool").glob("*.json"))]

    def looked(self, *, again: int = 0) -> None:
        """Wait until the watcher has come to the end of its first look, and of so many after this moment."""
        alive = self.folder / "spool" / "alive"
        until(alive.exists, "its first look")
        for _ in range(again):
            last = alive.stat().st_mtime_ns
            until(lambda last=last: alive.stat().st_mtime_ns > last, "another look")

    @contextmanager
    def watched(self, look_s: float = 600.0, *more: str) -> Iterator[subprocess.Popen[str]]:
        """The watcher at work; `look_s`: how long it waits when the kernel says nothing. more: its own arguments."""
        argv = ["nsenter", "-t", str(self.pid), "-n", "/usr/bin/env", "-u", "NOTIFY_SOCKET", "python3", "-c", START]
        process = subprocess.Popen(
            [*argv, str(PROGRAM), str(self.folder), str(look_s), *more], stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
        )
        try:
            yield process
        finally:
            process.terminate()
            _, complaints = process.communicate(timeout=60)
            assert "Traceback" not in complaints, complaints


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout
        holder.stdout.readline()  # it is in its namespace now
        yield Host(tmp_path, holder.pid)
    finally:
        holder.kill()
        holder.communicate()


def until(claim: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
    ends = time.monotonic() + deadline_s
    while not claim():
        assert time.monotonic() < ends, f"waited {deadline_s} s for {what}"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("flush", "ruleset"), "the firewall's rules were gone"),
        (("delete", "table", "inet", "edgefl"), "the firewall's rules were gone"),
        (("add", "rule", "inet", "edgefl", "output", "accept"), "the firewall's rules were changed"),
        (("flush", "chain", "inet", "edgefl", "output"), "the firewall's rules were changed"),
        (("add chain inet edgefl output { policy accept ; }",), "the firewall's rules were changed"),
    ],
)
def test_rules_that_somebody_changes_are_back_at_once_and_it_is_written_down(
    host: Host, change: tuple[str, ...], said: str
) -> None:
    before = host.rules()
    host.nft(*change)  # before it first looks
    with host.watched():
        until(host.reports, "a report")
        assert host.rules() == before
        (report,) = host.reports()
        assert (report["healed"], report["times"]) == (True, 1)
        assert report["found"] == [said]
        host.nft(*change)  # now nothing but the kernel's word tells it
        until(lambda: len(host.reports()) == 2, "a second report")
        assert host.rules() == before


@pytest.mark.parametrize(("times", "said"), [(1, 'rules were gone"] []'), (100, "Failed: somebody changes")])
def test_what_somebody_changes_in_the_moment_after_a_load_is_not_taken_for_what_the_file_means(
    host: Host, times: int, said: str
) -> None:
    before = host.rules()
    host.nft("delete", "table", "inet", "edgefl")
    argv = ["nsenter", "-t", str(host.pid), "-n", "python3", "-c", SLIPPED, str(PROGRAM), str(host.folder), str(times)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr
    assert (host.rules() == before) is (times == 1)


def test_what_an_operator_has_just_applied_is_left_alone_until_it_is_confirmed(host: Host) -> None:
    fresh = RULES.replace("counter", "tcp dport 443 accept\n    counter")
    unconfirmed = host.folder / "firewall.nft.unconfirmed"
    with host.watched(look_s=0.1) as watcher:
        host.looked()
        host.nft("delete", "table", "inet", "edgefl")
        until(lambda: len(host.reports()) == 1, "the watcher to be at work")
        unconfirmed.write_text(fresh)
        host.nft("-f", str(unconfirmed))
        live = host.rules()
        os.utime(unconfirmed)
        unconfirmed.rename(host.folder / "firewall.nft")
        host.looked(again=2)  # the second of them began with what is confirmed
        host.nft("add", "rule", "inet", "edgefl", "output", "accept")
        until(lambda: len(host.reports()) == 2, "a report of what somebody else changed")
        assert host.rules() == live, "healed to what the operator confirmed"
        assert watcher.poll() is None


def test_other_tables_are_not_its_business(host: Host) -> None:
    with host.watched():
        host.looked()
        host.nft("add", "table", "ip", "other")
        host.nft("delete", "table", "inet", "edgefl")
        until(host.reports, "a report")
        assert "table ip other" in host.rules()


def test_another_tables_hooks_are_told_once_and_left_alone_but_those_that_the_host_had_are_its_own(host: Host) -> None:
    host.nft("add table ip nat; add chain ip nat prerouting { type nat hook prerouting priority -100 ; }")
    with host.watched():
        until((host.folder / "hooks").exists, "the watcher to know the host's own hooks")
        host.nft("add table inet open; add chain inet open out { type filter hook output priority -400 ; policy accept ; }")
        until(host.reports, "a report")
        host.nft("add rule inet open out accept")
        host.nft("delete", "table", "inet", "edgefl")
        until(lambda: len(host.reports()) == 2, "a report of something else")
        assert "policy accept" in host.rules()
    first, second = host.reports()
    assert first["found"] == ["the table inet open got hooks of its own: out (filter, output -400)"]
    assert (first["healed"], second["found"]) == (False, ["the firewall's rules were gone"])
    with host.watched():
        host.nft("delete", "table", "inet", "open")
        until(lambda: "inet open" not in (host.folder / "hooks").read_text(), "that it is gone")
        host.nft("add table inet open; add chain inet open out { type filter hook output priority -400 ; policy accept ; }")
        until(lambda: len(host.reports()) == 3, "it came again, and is told again")


def test_it_gives_signs_of_life_while_it_lives_and_follows_nobodys_links(host: Host) -> None:
    precious = host.folder / "precious"
    precious.write_text("kept")
    sign = host.folder / "spool" / "alive"
    sign.symlink_to(precious)
    (host.folder / "spool" / "alive.new").symlink_to(precious)
    with host.watched(look_s=0.05):
        until(lambda: sign.exists() and not sign.is_symlink(), "the first sign of life")
        first = sign.stat().st_mtime_ns
        until(lambda: sign.stat().st_mtime_ns > first, "another one")
    assert precious.read_text() == "kept"
    assert sign.stat().st_mode & 0o777 == 0o640
    assert host.reports() == []
    assert not (host.folder / "spool" / "walls.prom").exists(), "nobody asks for it here"


def test_a_host_whose_node_exporter_tells_of_its_walls_says_when_it_looked_and_when_they_were_not_whole(host: Host) -> None:
    metrics = host.folder / "spool" / "walls.prom"

    def told() -> dict[str, float]:
        return {one.name: one.samples[0].value for one in text_string_to_metric_families(metrics.read_text())}

    with host.watched(0.05, "--metrics"):
        until(metrics.exists, "its first look")
        first, began = told(), time.time()
        assert first["edgefl_walls_drift_timestamp_seconds"] == 0
        host.nft("delete", "table", "inet", "edgefl")
        until(lambda: told()["edgefl_walls_drift_timestamp_seconds"], "word of what was changed")
        after = told()
    assert began < after["edgefl_walls_drift_timestamp_seconds"] <= after["edgefl_walls_look_timestamp_seconds"]
    assert began - 60 < first["edgefl_walls_look_timestamp_seconds"] < after["edgefl_walls_look_timestamp_seconds"]
    assert metrics.stat().st_mode & 0o777 == 0o640


def test_rules_that_do_not_load_are_said_not_to_be_healed(host: Host) -> None:
    (host.folder / "firewall.nft").write_text("no rules")
    with host.watched():
        until(host.reports, "a report")
    (report,) = host.reports()
    assert report["healed"] is False
    assert str(report["found"]).startswith("['not healed: ")
