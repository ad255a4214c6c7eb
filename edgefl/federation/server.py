"""The ServerApp: what Flower calls on the coordinator to do one run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from edgefl.errors import EdgeflError
from edgefl.events import schema as events
from edgefl.events.journal import Journal
from edgefl.federation import rounds
from edgefl.federation.aggregation import kernels
from edgefl.federation.aside import Aside
from edgefl.federation.checkpoint import Models
from edgefl.federation.exchange import Exchange
from edgefl.federation.flower import patches
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.federation.run import Run

app = ServerApp()
STOP_SEEN_S = 2.0
"""How long after a failure the operator's wish is looked for: the monitor writes it down once Flower has obeyed."""

log = logging.getLogger("edgefl")


def main(grid: Grid, context: Context) -> None:
    """Do the whole plan; the journal gets a `run_finished` whatever happens."""
    places = Places.from_environment()
    host = HostConfig.load(places.host)
    run = str(context.run_id)
    log.info("run %s: updates are aggregated by %s", run, kernels.used())
    with Journal(places.journal) as journal:
        try:
            exchange = Exchange(grid, partial(device_names, places.nodes), Aside(journal))
            with Models(places.models).alone():
                Run.open(host, places, exchange, journal, overrides=context.run_config, run=run).work()
        except BaseException as cause:
            journal.append(ending(cause, partial(was_stopped, journal, run)), run=run)
            raise


app.main()(main)


def was_stopped(journal: Journal, run: str, *, within_s: float = STOP_SEEN_S) -> bool:
    """Whether the operator asked for the end of this run: the SuperLink then turns away whatever call is under way."""
    gives_up = time.monotonic() + within_s
    while True:
        actions = [record["body"] for record in journal.newest(["operator_action"], size=20)]
        if any(body["action"] == "stop" and body["subject"] == f"run {run}" for body in actions):
            return True
        if time.monotonic() >= gives_up:
            return False
        time.sleep(0.1)  # the monitor's line is milliseconds away, where there is one


def ending(cause: BaseException, was_stopped: Callable[[], bool] = lambda: False) -> events.RunFinished:
    """What the journal says of a run that did not complete. was_stopped: asked where the cause alone does not tell."""
    if isinstance(cause, SystemExit | KeyboardInterrupt | patches.run_is_over()) or was_stopped():
        return events.RunFinished(status="stopped", reason="stopped by the operator, or with the coordinator's services")
    why = " ".join(cause.lines()) if isinstance(cause, EdgeflError) else f"{type(cause).__name__}: {cause}"
    return events.RunFinished(status="failed", reason=why)


def device_names(path: Path) -> dict[int, str]:
    """Flower's node ids with the devices' names, as the registration wrote them. Raises RunInvalid."""
    try:
        return {int(node): str(name) for node, name in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise rounds.RunInvalid(f"{path} does not say which node is which device: {error}", hint="edgefl up") from error
