"""The demo: a whole federation on this machine, with one device that turns against it.

Everything is the product's own way (`up`, `run`); only the data and the attacker are the demo's.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from edgefl.operations.program import printed
from edgefl.operations.run import run
from edgefl.operations.stage import chained
from edgefl.operations.summary import Summary, summarise
from edgefl.operations.up import up
from edgefl.progress import Finished, Progress, Started
from edgefl.share import share
from edgefl.site import load
from edgefl.site.model import Site

COMPROMISED: Mapping[str, str] = {"edge-07": "reversal"}
"""Who attacks and how: by an attack that the plain mean does not survive, so that the run shows the defence at work."""
FIRST_ROUND = 3
"""The attack begins here, after two rounds of good behaviour."""
TOLERANCE = 0.03
"""How far below the clean run's accuracy the attacked run may end."""


def prepare(directory: Path) -> Path:
    """The demo's site at `directory`, written on first use; a site.yaml that is there is the user's own."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "site.yaml").exists():
        shutil.copyfile(share("sites") / "demo" / "site.yaml", directory / "site.yaml")
    return directory


async def demo(directory: Path) -> AsyncIterator[Progress]:
    """Make the data, provision, own one device, train, and compare with a run in which nobody attacks.

    Writes `.edgefl/result.json`; the last event carries the summary that it is made of. Everything is safe to repeat.
    """
    prepare(directory)
    seen: list[Progress] = []
    async for event in chained(_data(directory)):
        seen.append(event)
        yield event
    site = load(directory, with_files=True)
    for stage in (up(site), _compromise(site), run(site), _clean(site)):
        async for event in chained(stage):
            seen.append(event)
            yield event
    summary = await summarise(site, seen, compromised=sorted(COMPROMISED), clean_floor=seen[-1].detail["accuracy"] - TOLERANCE)
    (site.state / "result.json").write_text(json.dumps(summary.result(), indent=2) + "\n")
    yield Finished("demo", "", "complete", detail={"summary": summary})


def summary_of(events: list[Progress]) -> Summary:
    """The summary that the demo's last event carries."""
    summary = events[-1].detail["summary"]
    if not isinstance(summary, Summary):
        raise TypeError("the demo did not end with its summary")
    return summary


async def _data(directory: Path) -> AsyncIterator[Progress]:
    """Split real images into one private directory per device, in a process of its own: the operator's loads no numpy."""
    began = time.monotonic()
    yield Started("data", "", "Fashion-MNIST, split among the devices")
    devices = 8
    target = directory / "data"
    fresh = not all((target / f"edge-{number:02}").is_dir() for number in range(1, devices + 1))
    if fresh:
        await printed("edgefl.lab.data", "--task", "images", "--devices", str(devices), "--out", str(target))
    what = f"{devices} private directories in {target}"
    yield Finished("data", "", what, changed=fresh, seconds=time.monotonic() - began)


async def _compromise(site: Site) -> AsyncIterator[Progress]:
    from edgefl.lab.compromise import compromise
    from edgefl.lab.hosts import Lab

    began = time.monotonic()
    attackers = ", ".join(COMPROMISED)
    yield Started("attack", "", f"{attackers} will send sign-flipped updates, ten times as long, from round {FIRST_ROUND} on")
    lab = Lab(site.state / "lab", site.infrastructure.network)
    for device, attack in COMPROMISED.items():
        await asyncio.to_thread(compromise, lab, device, attack, first_round=FIRST_ROUND)
    yield Finished("attack", "", "planted, as an attacker with root on the device would", seconds=time.monotonic() - began)


async def _clean(site: Site) -> AsyncIterator[Progress]:
    """The same training with the same data and privacy, without the attacker, in one process: what accuracy should be reached."""
    began = time.monotonic()
    yield Started("comparison", "", "the same run, simulated without the attacker")
    told = json.loads(await printed("edgefl.federation.simulate", *_simulated(site)))
    accuracy = float(told["accuracy"])
    yield Finished(
        "comparison", "", f"clean accuracy {accuracy:.3f}", seconds=time.monotonic() - began, detail={"accuracy": accuracy}
    )


def _simulated(site: Site) -> list[str]:
    """The site's run as arguments of the simulation."""
    named = {
        "task": site.task.module,
        "data": site.root / "data",
        "parameters": json.dumps(site.task.parameters),
        "rounds": site.run.rounds,
        "seed": site.run.seed,
        "compression": site.compression.model_dump_json(),
        "optimiser": site.aggregation.optimiser.model_dump_json(),
        "rule": site.aggregation.rule,
        "byzantine": site.aggregation.byzantine,
        "epsilon-per-run": site.privacy.epsilon_per_run,
        "epsilon-limit": site.privacy.epsilon_limit,
        "delta": site.privacy.delta,
        "max-grad-norm": site.privacy.max_grad_norm,
    }
    return [word for name, value in named.items() for word in (f"--{name}", str(value))]
