"""What operators do, for the audit log: written down at once, and told to the journal as soon as it can be.

An operation that changes hosts may have no coordinator to tell, before it or after it. What the journal does not have yet waits
in `.edgefl/untold/`, results of audits beside their reports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgefl.errors import EdgeflError, NotProvisioned
from edgefl.events.schema import AuditFinished, Body, OperatorAction
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Warned
from edgefl.site.model import Site

_LATER = "it waits in .edgefl; the next `edgefl up` or `edgefl audit log` writes it there"
MOST_AT_ONCE = 500


def note(state: Path, action: str, subject: str = "", *, why: str = "", **detail: Any) -> None:
    """Write down what was done. state: the site's `.edgefl`. Who did it is who tells it: this machine's operator."""
    now = datetime.now(UTC)
    said = OperatorAction(who="", action=action, subject=subject, why=why, detail={**detail, "at": now.isoformat()})
    directory = state / "untold"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = directory / f".{now:%Y%m%d-%H%M%S-%f}.new"
    draft.write_text(said.model_dump_json())
    draft.rename(directory / f"{now:%Y%m%d-%H%M%S-%f}.json")


@contextmanager
def noted_when_it_fails(site: Site, action: str, *, why: str = "") -> Iterator[None]:
    """What is cut short or fails half-way is in the audit log too: hosts may have been changed."""
    try:
        yield
    except BaseException as error:
        failed = error.what if isinstance(error, EdgeflError) else f"cut short ({type(error).__name__})"
        note(site.state, action, site.name, why=why, failed=failed)
        raise


def pending(site: Site) -> Iterator[tuple[Path, Body]]:
    """What the journal does not have yet, with the files that wait for it; oldest first."""
    for path in sorted((site.state / "untold").glob("[0-9]*.json")):
        with suppress(OSError, ValueError):  # a file that somebody damaged
            yield path, OperatorAction.model_validate_json(path.read_bytes())
    for path in sorted((site.state / "audits").glob("*/untold.json")):
        with suppress(OSError, ValueError):  # the report beside it says the same
            yield path, AuditFinished.model_validate_json(path.read_bytes())


async def tell(site: Site) -> AsyncIterator[Progress]:
    """Bring to the journal what it does not have yet; what cannot be told now goes on waiting."""
    waiting = list(pending(site))
    if not waiting:
        return
    try:
        async with watching(site) as monitor:
            while waiting:
                now, waiting = waiting[:MOST_AT_ONCE], waiting[MOST_AT_ONCE:]
                await monitor.append(*(body for _, body in now))
                for path, _ in now:
                    path.unlink(missing_ok=True)
                yield Finished("journal", "", f"the audit log has {len(now)} more")
    except NotProvisioned:
        yield Warned("journal", "", "there is no coordinator yet, so the audit log lacks this", hint=_LATER)
    except EdgeflError as error:
        yield Warned("journal", "", f"the audit log lacks this yet: {error.what}", hint=_LATER)
