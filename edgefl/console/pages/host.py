"""One host in an operation: every task that it has been through, the newest last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgefl.console import figures
from edgefl.console.ink import Ink, Tone, ink
from edgefl.console.live import Frame
from edgefl.console.pages.outcome import OutcomePage
from edgefl.console.provisioning.lines import Line
from edgefl.console.provisioning.looks import SIGNS
from edgefl.console.provisioning.tree import Leaf, Mark, Tree
from edgefl.console.view import GridView
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid


@dataclass(frozen=True, slots=True)
class Through:
    """A task that the host has been through."""

    key: str
    role: str
    leaf: Leaf


class HostPage(GridView):
    """A host's tasks, live."""

    WHAT = "Every task that this host has been through: what changed, what failed, how long it took. Enter opens what was said."

    def __init__(self, host: str, tree: Callable[[], Tree | None]) -> None:
        super().__init__(Grid[Through](COLUMNS, lambda row: row.key, empty="this host takes no part"))
        self._host = host
        self._tree = tree

    @property
    def title(self) -> str:
        """The host's name."""
        return self._host

    def show(self, frame: Frame) -> None:
        """Bring the tasks up to the operation as it is."""
        tree = self._tree()
        self.grid.show(through(tree, self._host) if tree is not None else [])

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: what was said."""
        row = self.grid.selected
        if row is not None:
            line = Line(row.key, 0, row.leaf.what, self._host, row.leaf.mark, row.leaf, row.leaf.seconds)
            self.post_message(self.Open(OutcomePage(line, None)))


def through(tree: Tree, host: str) -> list[Through]:
    """The host's part of every task."""
    return [
        Through(f"{stage.name}/{place}/{role}/{name}", role, leaf)
        for stage in tree.stages
        for place, play in enumerate(stage.plays)
        for (role, name), task in play.tasks.items()
        if (leaf := task.hosts.get(host)) is not None
    ]


def _task(row: Through, cells: int) -> Ink:
    sign, tone = SIGNS[row.leaf.mark]
    return (*ink(f"{sign} ", tone), *ink(row.leaf.what, Tone.BAD if row.leaf.mark is Mark.FAILED else Tone.PLAIN))


COLUMNS: tuple[Column[Through], ...] = (
    Column("task", "TASK", 40, _task, lambda row: row.leaf.what, right=False, most=110),
    Column("role", "ROLE", 12, lambda row, _: ink(row.role, Tone.MUTED), lambda row: row.role, 2, right=False),
    Column(
        "result", "RESULT", 8, lambda row, _: ink(row.leaf.mark.name.lower(), SIGNS[row.leaf.mark][1]),
        lambda row: row.leaf.mark, 1, right=False, descending=True, raw=lambda row: row.leaf.mark.name.lower(),
    ),
    Column(
        "seconds", "TIME", 6, lambda row, _: ink(figures.seconds(row.leaf.seconds), Tone.MUTED), lambda row: row.leaf.seconds,
        descending=True,
    ),
)  # fmt: skip
