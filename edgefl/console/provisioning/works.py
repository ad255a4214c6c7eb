"""The operation that the console has at work on a site: started, followed and cancelled, never waited for by the screen.

It has a thread and an event loop of its own, so that nothing in it holds the screen up; what it says is folded there into a tree
that the screen reads whenever it paints.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic

from edgefl.console.provisioning import changes
from edgefl.console.provisioning.tree import Mark, Tree
from edgefl.errors import EdgeflError
from edgefl.operations.plan import plan
from edgefl.operations.stage import chained
from edgefl.operations.up import up
from edgefl.progress import Progress
from edgefl.site.loading import load, place
from edgefl.site.model import Site

Operation = Callable[[Site], AsyncIterator[Progress]]
OPERATIONS: Mapping[str, Callable[..., AsyncIterator[Progress]]] = {"plan": plan, "up": up}


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and the SHA-256 of the site.yaml that it is of."""

    tree: Tree
    digest: str


class Works:
    """One site's directory, and at most one operation on it at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._tree: Tree | None = None
        self._planned: Planned | None = None
        self._is_running = False
        self._is_stopping = False
        self._ended = asyncio.Event()
        self._cancel: Callable[[], object] | None = None

    @property
    def tree(self) -> Tree | None:
        """The operation at work, or the last one; None before the first."""
        return self._tree

    @property
    def planned(self) -> Planned | None:
        """What an apply would do, as planned last; None when nothing is planned or what was planned is done."""
        return self._planned

    @property
    def is_running(self) -> bool:
        """Whether an operation is at work."""
        return self._is_running

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end, and has not yet."""
        return self._is_stopping

    def digest(self) -> str:
        """SHA-256 (hex) of site.yaml as it is; empty when there is none."""
        try:
            return hashlib.sha256(place(self.directory).read_bytes()).hexdigest()
        except OSError:
            return ""

    async def run(self, name: str, operation: Operation | None = None) -> Tree:
        """Have an operation at work until it ends, well or not: the tree says which. operation: where OPERATIONS has none."""
        self._tree, self._is_running, self._is_stopping = Tree(name, "", monotonic()), True, False
        self._ended.clear()
        work = asyncio.get_running_loop().run_in_executor(None, self._work, name, operation or self._operation(name))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:  # the console ends without having asked: so does what it started
            self.cancel()
            raise
        finally:
            self._is_running = self._is_stopping = False
            self._ended.set()
        return self._tree

    def cancel(self) -> None:
        """End the operation as Ctrl-C does at the command line; the same one goes on from there."""
        if self._is_running and not self._is_stopping:
            self._is_stopping = True
            if self._cancel is not None:
                self._cancel()

    async def end(self) -> None:
        """Cancel what is at work, and return when it has ended."""
        self.cancel()
        if self._is_running:
            await self._ended.wait()

    def _operation(self, name: str) -> Operation:
        """The operation of that name; an apply ends the run that is going only where the question said so."""
        is_meant = name == "up" and self._planned is not None and changes.ends_run(self._planned.tree)
        return partial(OPERATIONS[name], now=True) if is_meant else OPERATIONS[name]

    def _work(self, name: str, operation: Operation) -> None:
        digest = self.digest()
        error: EdgeflError | None = None
        stopped = False
        try:
            with asyncio.Runner() as runner:
                runner.run(self._follow(operation))
        except asyncio.CancelledError:
            stopped = True
        except EdgeflError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001  # the last boundary here: it is shown as every other failure
            error = EdgeflError(f"unexpected {type(raised).__name__}: {raised}", hint=f"EDGEFL_DEBUG=1 edgefl {name}")
        finally:
            self._cancel = None
        assert self._tree is not None  # noqa: S101 - `run` made one
        self._tree = self._tree.finish(monotonic(), error, stopped=stopped)
        if name == "plan":  # one that ended before it found anything out is nothing to be asked about
            self._planned = Planned(self._tree, digest) if self._tree.stages and not stopped else None
        elif self._tree.mark is Mark.DONE:
            self._planned = None

    async def _follow(self, operation: Operation) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._cancel = partial(loop.call_soon_threadsafe, task.cancel)
        if self._is_stopping:
            raise asyncio.CancelledError
        site = load(self.directory, with_files=True)
        self._tree = replace(self._tree or Tree("", "", monotonic()), site=site.name)
        async for event in chained(operation(site)):
            self._tree = self._tree.tell(event, monotonic())
