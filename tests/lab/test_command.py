import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgefl.lab.command import detach, interrupt, run, wait_until
from edgefl.lab.failure import LabFailed


def test_a_command_that_fails_is_quoted_with_what_it_said() -> None:
    with pytest.raises(LabFailed, match=r"sh -c echo no room >&2; exit 3 failed \(exit 3\): no room"):
        run(["sh", "-c", "echo no room >&2; exit 3"])


def test_a_tool_that_is_missing_is_named() -> None:
    with pytest.raises(LabFailed, match="no-such-tool is not on this machine"):
        run(["no-such-tool"])


@pytest.mark.slow
def test_a_command_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(LabFailed, match=r"did not end within 2 s"):
        run(["sh", "-c", f"sh -c 'echo $$ >{tmp_path}/child; exec sleep 60' & wait"], timeout_s=2)
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    wait_until(lambda: not child.exists() or "\nState:\tZ" in (child / "status").read_text(), "the child's end", deadline_s=30)


def test_a_detached_process_is_its_own_session_and_inherits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hush")
    reader, writer = os.pipe()
    script = f"echo $$ >{tmp_path}/pid.partial; mv {tmp_path}/pid.partial {tmp_path}/pid; exec sleep 60"
    detach(["sh", "-c", script], log=tmp_path / "log")
    wait_until((tmp_path / "pid").exists, "its number", deadline_s=30)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert os.getsid(pid) == pid
        assert "A_SECRET" not in Path(f"/proc/{pid}/environ").read_text()
        opened = {str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}
        assert opened == {"/dev/null", str(tmp_path / "log")}
    finally:
        os.kill(pid, 9)
        os.close(reader)
        os.close(writer)


def test_an_interrupt_ends_what_every_thread_waits_for(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(run, ["sh", "-c", f"touch {tmp_path}/{n}; sleep 60"]) for n in range(2)]
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "both commands", deadline_s=30)
        interrupt()
        for future in waiting:
            assert isinstance(future.exception(timeout=30), LabFailed)


def test_an_interrupt_ends_what_is_just_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            interrupt()

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(LabFailed, match="sleep 30 failed"):
        run(["sleep", "30"])
