"""The console in a real terminal (tmux), driven by its keys."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .conftest import Fleet, until


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, socket: Path, command: list[str], *, columns: int = 120, lines: int = 40) -> None:
        self._socket, self._ended = str(socket), Path(f"{socket}.ended")
        size = ("-x", str(columns), "-y", str(lines))
        # tmux misses the end of a command now and then, and keeps a zombie: a shell writes down how it ended.
        noting = ["sh", "-c", 'trap : INT; "$@"; echo $? >"$0.new"; mv "$0.new" "$0"', str(self._ended), *command]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, shlex.join(noting))
        self._tmux("set", "-g", "remain-on-exit", "on")

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: `Enter`, `Escape`, `Q`; each once the one before it shows, as by somebody who looks."""
        for key in keys:
            before = self._painted
            self._tmux("send-keys", key)
            until(lambda before=before: self._painted != before, f"the screen to answer {key}", 30)  # type: ignore[misc]

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    @property
    def shown(self) -> str:
        return self._tmux("capture-pane", "-p")

    @property
    def _painted(self) -> str:
        """The screen with its colours, or that the command has ended."""
        return f"{self.exit_code} {self._tmux('capture-pane', '-p', '-e')}"

    @property
    def exit_code(self) -> int | None:
        """The command's, once it has ended."""
        return int(self._ended.read_text()) if self._ended.exists() else None

    def until(self, *texts: str, deadline_s: float = 30, when: Callable[[str], object] = bool) -> str:
        """Wait until the screen shows all of this; what it shows then."""
        seen = [""]

        def holds() -> bool:
            seen[0] = self.shown
            return all(text in seen[0] for text in texts) and bool(when(seen[0]))

        try:
            until(holds, f"{texts} on the screen", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows\n{seen[0]}") from error
        return seen[0]

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)

    def _tmux(self, *argv: str) -> str:
        done = subprocess.run(["tmux", "-S", self._socket, *argv], capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout


def console(fleet: Fleet, *options: str) -> list[str]:
    """The command, for a terminal whose size it asks the terminal."""
    command = [sys.executable, "-m", "edgefl", "console", "--site", str(fleet.directory), *options]
    return ["env", "-u", "COLUMNS", "-u", "LINES", *command]
