"""Federations on this machine: every service is the real one, as a plain process; only the hosts are folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefl.federation.loopback import Loopback
from edgefl.site.model import Site

TASK = Path(__file__).parents[1] / "federation" / "linear_task.py"
NAMES = ["edge-1", "edge-2", "edge-3"]

Made = Callable[..., Loopback]


def records(factory: pytest.TempPathFactory, names: Sequence[str]) -> dict[str, Path]:
    """Each device's own records, of one kind of thing that they learn together."""
    generator, direction = np.random.default_rng(3), np.random.default_rng(0).normal(size=10)
    directories = {}
    for name in names:
        directories[name] = factory.mktemp(name)
        x = generator.normal(size=(240, 10)).astype(np.float32)
        np.savez(directories[name] / "records.npz", x=x, y=(x @ direction > 0).astype(np.int64))
    return directories


def site_of(root: Path, names: Sequence[str], sections: dict[str, Any]) -> Site:
    """A site with the smallest task that learns, in `root`."""
    (root / "task.py").write_text(TASK.read_text())
    made = Site.model_validate({
        "name": "loop",
        "devices": [{"name": name} for name in names],
        "task": {"module": "./task.py"},
        "privacy": {"mode": "none"},
        **sections,
    })  # fmt: skip
    made._root = root
    return made


@contextmanager
def federations(root: Path, data: dict[str, Path]) -> Iterator[Made]:
    """What makes a federation of a site; everything of it ends with the block."""
    made: list[Loopback] = []

    def make(site: Site, *, use_gate: bool = False, environment: dict[str, dict[str, str]] | None = None) -> Loopback:
        found = Loopback(root / "loop", site, data, use_gate, environment or {})
        made.append(found)
        return found.__enter__()

    try:
        yield make
    finally:
        for found in made:
            found.stop()


def bodies(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """What events of one kind say, each with its round."""
    return [{**event["body"], "round": event["round"]} for event in events if event["body"]["type"] == kind]


@pytest.fixture(scope="session")
def trio(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The records of three devices."""
    return records(tmp_path_factory, NAMES)


@pytest.fixture
def federation(tmp_path: Path, trio: dict[str, Path]) -> Iterator[Made]:
    """Make a federation of three devices; everything of it ends with the test."""
    with federations(tmp_path, trio) as make:

        def of_three(
            *, use_gate: bool = False, environment: dict[str, dict[str, str]] | None = None, **sections: dict[str, Any]
        ) -> Loopback:
            site = site_of(
                tmp_path,
                NAMES,
                {
                    "run": {"rounds": 3, "deadline_s": 240, "quorum": 0.6, **sections.get("run", {})},
                    "privacy": {"mode": "none", **sections.get("privacy", {})},
                    "aggregation": {"rule": "median", "byzantine": 0.3},
                    "compression": sections.get("compression", {}),
                },
            )
            return make(site, use_gate=use_gate, environment=environment)

        yield of_three
