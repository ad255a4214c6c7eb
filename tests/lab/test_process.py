import os
import subprocess
from dataclasses import replace
from pathlib import Path

from edgefl.lab.process import Process


def test_a_saved_process_is_found_while_it_lives(tmp_path: Path) -> None:
    own = Process.of(os.getpid())
    assert own is not None
    own.save(tmp_path / "p.json")
    assert Process.load(tmp_path / "p.json") == own


def test_a_process_that_took_over_the_number_or_came_after_a_reboot_is_another_one(tmp_path: Path) -> None:
    own = Process.of(os.getpid())
    assert own is not None
    for other in (replace(own, started=own.started + 1), replace(own, boot="another boot")):
        other.save(tmp_path / "p.json")
        assert Process.load(tmp_path / "p.json") is None


def test_a_zombie_is_no_process() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Process.of(child.pid) is None
    child.wait()


def test_a_missing_or_damaged_file_means_no_process(tmp_path: Path) -> None:
    assert Process.load(tmp_path / "none.json") is None
    (tmp_path / "p.json").write_text("{")
    assert Process.load(tmp_path / "p.json") is None
