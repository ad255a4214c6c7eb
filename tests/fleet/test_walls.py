"""The isolation role's watcher over a folder that stands for a host, and over a real firewall in a namespace of its own."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.walls import rendered, role_program

HARDENING = rendered("isolation", "hardening.conf.j2")


@pytest.fixture
def walls() -> ModuleType:
    return role_program("isolation", "walls")


class Host:
    """A folder laid out as the role leaves a host, and the words that systemd was given."""

    def __init__(self, root: Path, walls: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.asked = root, list[str]()
        self.write("/etc/edgefl/hardening.conf", HARDENING)
        self.write(walls.HARDENING, HARDENING)
        self.at(walls.AT_BOOT).parent.mkdir(parents=True)
        self.at(walls.AT_BOOT).symlink_to("../nftables-edgefl.service")
        self.started = time.time() - 3600
        monkeypatch.setattr(walls, "run", self.system)
        monkeypatch.setattr(walls.time, "sleep", lambda _: None)

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str) -> Path:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)
        return self.at(path)

    def system(self, *argv: str) -> str:
        self.asked.append(" ".join(argv[1:]))
        if argv[1] == "enable":
            self.at("/etc/systemd/system/sysinit.target.wants/nftables-edgefl.service").symlink_to("x")
        booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        return f"Id=edgefl-supernode.service\nExecMainStartTimestampMonotonic={int((self.started - booted) * 1e6)}\n"


@pytest.fixture
def host(tmp_path: Path, walls: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, walls, monkeypatch)


def test_a_host_as_it_was_laid_down_is_left_alone(host: Host, walls: ModuleType) -> None:
    host.write(
        "/etc/systemd/system/edgefl-supernode.service.d/limits.conf", "[Service]\nMemoryMax=1G\nTasksMax=512\nRestartSec=3\n"
    )
    host.write("/etc/systemd/system/other.service.d/x.conf", "[Service]\nCapabilityBoundingSet=~\n")
    assert walls.Hardening(str(host.root)).heal() == []
    assert host.asked == []


def test_a_hardening_that_was_changed_or_removed_is_put_back_without_making_services_old(host: Host, walls: ModuleType) -> None:
    laid = host.at("/etc/edgefl/hardening.conf")
    os.utime(laid, (1e9, 1e9))
    changed = host.write(walls.HARDENING, HARDENING.replace("IPAddressDeny=any", "IPAddressDeny="))
    assert walls.Hardening(str(host.root)).heal() == ["the hardening of edgefl's units was changed"]
    assert changed.read_text() == HARDENING
    assert changed.stat().st_mtime == 1e9
    assert host.asked[0] == "daemon-reload"
    assert not any("restart" in word for word in host.asked), "what ran before keeps its walls"
    changed.unlink()
    host.started = time.time() + 1
    assert walls.Hardening(str(host.root)).heal() == ["the hardening of edgefl's units was removed"]
    assert changed.read_text() == HARDENING
    assert host.asked[-1] == "try-restart --no-block edgefl-supernode.service", "what began without its walls begins anew"


@pytest.mark.parametrize("place", ["/etc/systemd/system", "/run/systemd/system", "/run/systemd/system.control"])
@pytest.mark.parametrize("setting", ["IPAddressAllow=any", "CapabilityBoundingSet=~", "ProtectSystem=no", "User=root"])
def test_a_drop_in_that_loosens_a_unit_is_taken_out_of_sight_and_kept(
    host: Host, walls: ModuleType, place: str, setting: str
) -> None:
    loose = host.write(f"{place}/edgefl-superexec.service.d/50-x.conf", f"[Service]\n# mine\n{setting}\n")
    name = setting.partition("=")[0]
    assert walls.Hardening(str(host.root)).heal() == [f"a drop-in of edgefl-superexec.service set {name}"]
    assert not loose.exists()
    assert setting in loose.with_name("50-x.conf.drift").read_text()
    assert walls.Hardening(str(host.root)).heal() == []


def test_walls_that_would_not_be_loaded_at_boot_are_enabled_again(host: Host, walls: ModuleType) -> None:
    host.at(walls.AT_BOOT).unlink()
    assert walls.Hardening(str(host.root)).heal() == ["the firewall was not to be loaded at boot"]
    assert "enable --quiet nftables-edgefl.service" in host.asked


def test_who_fights_over_the_rules_fills_neither_disk_nor_journal(tmp_path: Path, walls: ModuleType) -> None:
    spool = walls.Spool(str(tmp_path))
    for second in range(150):
        spool.note(["the firewall's rules were gone"], True, 0.1)
        spool.write(1000.0 + second)
    reports = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    assert [report["times"] for report in reports] == [1, 60, 60]
    assert all(report["found"] == ["the firewall's rules were gone"] for report in reports)
    for path in range(30):
        (tmp_path / f"{path}.json").touch()
    spool.write(9e9)
    assert len(list(tmp_path.glob("*.json"))) == 33, "nobody fetches them: no more are written"


def test_a_report_is_what_the_coordinator_understands(tmp_path: Path, walls: ModuleType) -> None:
    from edgefl.monitor.drift import understood

    spool = walls.Spool(str(tmp_path))
    spool.note(["the firewall's rules were changed"], True, 0.25)
    spool.write(1000.0)
    (report,) = tmp_path.glob("*.json")
    assert report.stat().st_mode & 0o777 == 0o640
    told = understood(json.loads(report.read_text()), "edge-01", "device")
    assert (told.found, told.healed, told.seconds) == (["the firewall's rules were changed"], True, 0.25)
