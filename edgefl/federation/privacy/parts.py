"""Batches in parts that fit into a device's memory: a step is over what was sampled, however many records it takes at once.

Opacus adds up the clipped gradients of the parts and makes one step, with one draw of noise, after the last (the virtual steps of
its BatchMemoryManager). How many records fit is measured, since it depends on the task's model: a few first, then as many as what
those took leaves room for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from edgefl.federation.batches import fetch
from edgefl.federation.privacy.plan import PrivacyRefused

FIRST = 16
"""Records of the first part where nothing is known of the model: few enough not to hurt, enough to be worth a pass."""
CAUTION = 64
"""Until it was measured, a record is taken to need so many times what the model keeps of it for one backward pass. Clipping
goes through it twice and unfolds what convolutions see, each pixel as often as their kernel is large: about 15 times for two of
5 x 5.
"""
SHARE = 0.5
"""Of the memory that is free when training begins, what it may take: the rest is the update's, which is made afterwards."""
MARGIN = 0.8
"""Of that, what a part is expected to take: the heap has gaps, and the same part later takes a tenth more."""


class Room:
    """How many records fit at once, from what training has taken so far. spare: bytes that it may take. kept: bytes that the
    model keeps of one record, as `kept_of` says; 0 where that is not known. parted: whether a batch had to come in parts.

    What training takes is what no record is to blame for (the optimiser's, a library's first use) and so much for each record.
    One size tells only the sum of both, as if all were the records'; two sizes tell them apart. Parts grow to twice their
    size at most, so that none is a guess from much smaller ones; none is smaller than what has been through.
    """

    def __init__(self, spare: int, kept: int = 0, own: Path = Path("/proc/self")) -> None:
        self._spare, self._own = int(MARGIN * spare), own
        with suppress(OSError):  # then the process's own peak so far counts as training's, and parts are smaller
            (own / "clear_refs").write_text("5")  # the peak begins anew (proc_pid_clear_refs(5))
        self._before = self._bytes("VmRSS")
        self._smallest = 0, 0
        self._largest = 0
        self._first = max(1, self._spare // (CAUTION * kept)) if kept else FIRST
        self._fitting = self._first
        self.parted = False

    def of(self, left: int) -> int:
        """How many of the records that are left the next part takes; at least one, since fewer there are not."""
        return min(left, self._fitting)

    def took(self, records: int) -> None:
        """A part of so many records is through."""
        if records <= self._largest:
            return
        self._largest, taken = records, self._bytes("VmHWM") - self._before
        fewer, less = self._smallest
        each = max(1.0, (taken - less) / (records - fewer))
        more = int(max(0, self._spare - taken) / each)
        self._fitting = max(self._first, min(2 * records, records + more))
        if not fewer:
            self._smallest = records, taken

    def _bytes(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", (self._own / "status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0


def kept_of(model: nn.Module, dataset: Dataset[Any]) -> int:
    """Bytes that a model keeps of one record between the passes forward and backward, beside its own parameters.

    It sees zeros in a record's shape: what it takes of a record must have been charged before. 0 where the
    model takes something else than the first of what a record has: only its task knows that.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.zeros_like(fetch(dataset, torch.tensor([0]))[0]))
    except Exception:  # noqa: BLE001  # the task's own code, asked in a way that it need not know
        return 0
    return sum(kept.values())


def in_parts(draws: Iterator[torch.Tensor], optimizer: Any, room: Room) -> Iterator[torch.Tensor]:
    """The indices of each draw in parts, each with word to the optimiser whether its step is the draw's last.

    The optimiser takes the words in order, one a step: a task that fetches batches ahead of its steps changes nothing.
    """
    for drawn in draws:
        done = 0
        while done < len(drawn) or not done:
            size = max(1, room.of(len(drawn) - done))
            part = drawn[done : done + size]
            done += size
            room.parted |= done < len(drawn)
            optimizer.signal_skip_step(do_skip=done < len(drawn))
            yield part
            if len(part):
                room.took(len(part))


def require_steps(optimizer: Any, room: Room) -> None:
    """After training: raise PrivacyRefused where batches came in parts and the task took fewer steps than it was given batches.

    Words of parts without a step were then taken by others', and a step may have been over two samples: more than it was
    charged for.
    """
    if room.parted and optimizer._step_skip_queue:
        what = f"the task took no step for {len(optimizer._step_skip_queue)} of its batches, and they came in parts"
        raise PrivacyRefused(what, hint="step once per batch in `train`, also for an empty one")


def headroom(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup"), memory: Path = Path("/proc/meminfo")
) -> int:
    """Bytes that this process may still take: what the host has, or what a control group above it leaves, where that is less."""
    least = re.search(r"^MemAvailable:\s+(\d+) kB", memory.read_text(), re.MULTILINE)
    free = int(least[1]) * 1024 if least else 0
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        top = cgroups / controllers
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        place = top / path.lstrip("/")
        for group in (place, *place.parents):
            if not group.is_relative_to(top):
                break
            with suppress(OSError, ValueError):  # no such file, or `max`
                left = int((group / limit).read_text()) - int((group / used).read_text()) + _cache(group)
                free = min(free, max(0, left))
    return free


def _cache(group: Path) -> int:
    """Of what a group uses, files that the kernel drops when it needs room."""
    with suppress(OSError):
        if found := re.search(r"^(?:total_)?inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE):
            return int(found[1])
    return 0
