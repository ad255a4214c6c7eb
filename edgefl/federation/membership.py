"""Who takes part while a run goes on: a device that joins the site is asked from the next round on, one that left no more, and
one that is taken back as if it were new.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgefl.federation import rounds
from edgefl.federation.aggregation import policy
from edgefl.federation.hostconfig import HostConfig, Places

if TYPE_CHECKING:
    from edgefl.federation.run import Run

log = logging.getLogger("edgefl")


def members(places: Places) -> Sequence[str]:
    """The site's devices at this moment, in its order."""
    return HostConfig.load(places.host).devices


def renew(run: Run) -> None:
    """Take into the run who joined the site and is online, and leave out who left; where that cannot be, it goes on as it is.

    Where whole devices are protected the noise was planned for those that there were: only the next run knows others then.
    """
    if run.members is None or run.clients is not None:
        return
    before, online = run.plan, run.exchange.online()
    there = [device for device in run.members() if device in before.devices or device in online]
    try:
        run.plan = rounds.renewed(before, run.host, there)
        if run.secure and run.plan is not before:
            run.secure.check(run)
    except rounds.RunInvalid as error:
        run.plan = before
        log.warning("the run goes on with the devices that it had: %s", error.what)


def pardon(run: Run, devices: Sequence[str]) -> None:
    """Take devices as new: the operator pardoned them, or took them back from quarantine."""
    reputation, pardoned = policy.pardon(run.memory.reputation, devices, run.plan.policy)
    run.memory = replace(run.memory, reputation=reputation)
    run.journal.append_all(pardoned, run=run.plan.run)
