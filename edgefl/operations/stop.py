"""End the run that is going; what it has trained so far stays."""

from __future__ import annotations

from collections.abc import AsyncIterator

from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress
from edgefl.site.model import Site


async def stop(site: Site, *, why: str = "") -> AsyncIterator[Progress]:
    """Ask the coordinator to end the current run; with none going, nothing changes. Raises MonitorUnreachable."""
    async with watching(site) as monitor:
        run = (await monitor.status(updates=False)).state.run
        stopped = run is not None and run.status == "running" and await monitor.stop_run(run.id, why)
        what = f"run {run.id} is stopping" if run is not None and stopped else "no run is going"
        yield Finished("run", "", what, changed=stopped, detail={"run": run.id if run and stopped else ""})
