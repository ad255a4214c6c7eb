"""The ServerApp: what Flower calls on the coordinator to do one run."""

from __future__ import annotations

import json
import logging
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


def was_stopped(journal: Journal, run: str) -> bool:
    """Whether the operator asked for the end of this run: the monitor writes the wish down before the SuperLink obeys, which then
    turns away whatever call is under way.
    """
    actions = [record["body"] for record in journal.newest(["operator_action"], size=20)]
    return any(body["action"] == "stop" and body["subject"] == f"run {run}" for body in actions)


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
