"""What a plan would change, in the words of the question before it is done; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgefl.console.provisioning.tree import Leaf, Mark, Stage, Tree
from edgefl.operations.interruption import STAGE as RUN

_NAMED = 6


def told(plan: Tree) -> str:
    """Every change of a plan, part by part; what could not be found out is said too."""
    parts = [f"{stage.name}: {'; '.join(_of(stage))}" for stage in plan.stages if stage.changed and stage.name != "bundle"]
    if plan.fault is not None:
        first = plan.fault.what.splitlines()[0]
        parts.append(f"The plan could not be made whole: {first}")
    elif not parts:
        parts.append("Nothing would change. Every host is looked at, and its isolation is proven again.")
    return "\n".join(parts)


def ends_run(plan: Tree) -> bool:
    """Whether the run that is going would end with it, as the question says then."""
    return any(stage.name == RUN and stage.changed for stage in plan.stages)


def _of(stage: Stage) -> Iterator[str]:
    """`will be created: edge-01, edge-02`: who shares a fate is named together."""
    fates: dict[str, list[str]] = {}
    for leaf in stage.leaves.values():
        if leaf.mark is Mark.CHANGED:
            fates.setdefault(_fate(leaf), []).append(leaf.subject)
    for fate, names in fates.items():
        yield f"{fate}: {listed(names)}"
    for tally in stage.tallies.values():
        if tally.changed:
            yield f"{tally.outcome or f'{tally.changed} things would change'}: {tally.host}"


def _fate(leaf: Leaf) -> str:
    """What happens to it, without what differs from name to name."""
    return leaf.what.partition(": ")[0]


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    few = list(dict.fromkeys(names))
    more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    return ", ".join(few[:_NAMED]) + more
