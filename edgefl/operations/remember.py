"""Bring the operator's copy of the journal up to date, and notice when the coordinator's is another one."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgefl.errors import ExitCode
from edgefl.events.chain import Head
from edgefl.events.copy import Copy
from edgefl.monitor.errors import Refused
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient

_AT_ONCE = 500


def copy_of(site: Site) -> Copy:
    """Where a site's copy lies."""
    return Copy(site.state / "journal")


async def remember(site: Site, monitor: MonitorClient) -> Head:
    """Read what the copy does not have yet, check that it follows from it, and keep it; the copy's last event.

    Raises HistoryRewritten when the coordinator's journal is another one or ends earlier than was seen, JournalBroken when the
    copy itself was changed, and MonitorUnreachable.
    """
    copy = copy_of(site)
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, copy.held())  # another process may be at it for a while
        head = await asyncio.to_thread(copy.head)
        page: list[dict[str, Any]] = []
        try:
            async with aclosing(monitor.records(max(0, head.seq - 1))) as records:
                async for record in records:
                    page.append(record)
                    if len(page) >= _AT_ONCE:
                        head, page = await asyncio.to_thread(copy.follow, head, page), []
        except Refused as refused:
            if refused.exit_code != ExitCode.JOURNAL_BROKEN:
                raise
            raise copy.cut_short((await monitor.status(updates=False)).state.seq) from refused
        if not page and (ends := (await monitor.status(updates=False)).state.seq) < head.seq:
            raise copy.cut_short(ends)
        return await asyncio.to_thread(copy.follow, head, page)


def close(site: Site) -> None:
    """The coordinator is gone with its journal: what was read of it is kept under this time, and the next copy begins anew."""
    copy = copy_of(site)
    if copy.path.exists():
        copy.directory.rename(site.state / f"journal-until-{datetime.now(UTC):%Y%m%d-%H%M%S}")
