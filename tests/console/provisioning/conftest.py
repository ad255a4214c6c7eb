"""Streams as `edgefl plan --json` and `edgefl up --json` really wrote them, as Progress again.

plan-first: a site of adopted hosts of which nothing exists. up-unfit, plan-unfit: its hosts refuse SSH.
converge: a playbook of two plays on four hosts, of which edge-02 fails in the second.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefl import progress
from edgefl.progress import Progress

STREAMS = Path(__file__).with_name("streams")
KINDS = {
    kind.__name__.lower(): kind for kind in (progress.Started, progress.Step, progress.Finished, progress.Failed, progress.Warned)
}

Stream = Callable[[str], list[Progress]]


def stream_of(name: str) -> list[Progress]:
    records = [json.loads(line) for line in (STREAMS / f"{name}.ndjson").read_text().splitlines()]
    return [KINDS[record.pop("type")](**record) for record in records]


@pytest.fixture
def stream() -> Stream:
    return stream_of
