"""Take a model from the coordinator with its papers, or choose the one that the next run starts from."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

from edgefl import __version__
from edgefl.errors import EdgeflError
from edgefl.operations.fetch import ModelDamaged
from edgefl.operations.watch import watching
from edgefl.progress import Finished, Progress, Started, Step
from edgefl.site.model import Site

STAGE = "models"
_STEP_S = 0.5
"""How often a download says how far it is."""


class NotWritable(EdgeflError):
    """The export has nowhere to go."""


async def export(site: Site, name: str, directory: Path) -> AsyncIterator[Progress]:
    """Write `<site>-<run>-<round>.safetensors` and its card (lineage, metrics, privacy spent) as JSON into a directory.

    The coordinator keeps an exported version for good, and the journal has who took it. A file that is there already and right is
    left alone. Raises Refused (no such model), ModelDamaged, NotWritable, MonitorUnreachable.
    """
    began = time.monotonic()
    async with watching(site) as monitor:
        card = await monitor.export_model(name)
        run, round_, sha256, size = _checked(card)
        yield Started(STAGE, "", f"export {run}/{round_}", total=size)
        model = directory / f"{site.name}-{run}-{round_}.safetensors"
        changed = not await asyncio.to_thread(_is_there, model, sha256)
        if changed:
            parts = cast("AsyncGenerator[bytes, None]", monitor.model_file(f"{run}/{round_}"))
            async with aclosing(parts):
                async for step in _written(model, parts, sha256, size):
                    yield step
    papers = model.with_suffix(".json")
    text = json.dumps({**card, "edgefl": __version__, "file": model.name}, indent=2) + "\n"
    await asyncio.to_thread(_replace, papers, text.encode())
    detail = {"file": str(model), "card": str(papers), **card}
    yield Finished(STAGE, "", f"{model} and its card", changed=changed, seconds=time.monotonic() - began, detail=detail)


async def rollback(site: Site, name: str, why: str = "") -> AsyncIterator[Progress]:
    """Have the next run start from an earlier version; with an empty name, from the task's own model again.

    Raises Refused (no such model, with the nearest), MonitorUnreachable.
    """
    async with watching(site) as monitor:
        said = await monitor.choose_model(name, why)
    start = said["start"]
    what = f"the next run starts from {start}" if start else "the next run starts from the task's own model"
    yield Finished(STAGE, "", what if said["changed"] else f"{what}, as before", changed=bool(said["changed"]), detail=said)


def _checked(card: dict[str, Any]) -> tuple[str, int, str, int]:
    """What of a card becomes a file's name here: the coordinator sent it."""
    run, round_, sha256, size = (card.get(name) for name in ("run", "round", "sha256", "bytes"))
    if not (isinstance(run, str) and run.isdecimal() and isinstance(round_, int) and isinstance(size, int)):
        raise ModelDamaged(f"the coordinator calls its model {run!r}/{round_!r}, which is no run and round", hint="edgefl status")
    return run, round_, str(sha256), size


def _is_there(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NotWritable(f"{path} is in the way: {error.strerror}", hint="--out names another directory") from error


async def _written(path: Path, parts: AsyncIterator[bytes], sha256: str, size: int) -> AsyncIterator[Progress]:
    """The file from its parts, in place only when it is whole; a coordinator that sends more than it said is cut off."""
    fresh, found, had, told = path.with_name(path.name + ".new"), hashlib.sha256(), 0, time.monotonic()
    try:
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        file = await asyncio.to_thread(fresh.open, "wb")
        with file:
            async for part in parts:
                had += len(part)
                if had > size:
                    break
                found.update(part)
                await asyncio.to_thread(file.write, part)
                if time.monotonic() - told > _STEP_S:
                    told = time.monotonic()
                    yield Step(STAGE, path.name, f"{100 * had // max(1, size)} % of {size / 1e6:.1f} MB")
        if found.hexdigest() != sha256:
            raise ModelDamaged(f"what arrived is not the model {path.name}: its SHA-256 differs", hint="edgefl models show last")
        await asyncio.to_thread(fresh.replace, path)
    except OSError as error:
        raise NotWritable(f"{path} cannot be written: {error.strerror}", hint="--out names another directory") from error
    finally:
        with suppress(OSError):
            await asyncio.to_thread(fresh.unlink)


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError as error:
        raise NotWritable(f"{path} cannot be written: {error.strerror}", hint="--out names another directory") from error
