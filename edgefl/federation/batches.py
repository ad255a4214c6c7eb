"""Batches of a device's records, drawn once: by shuffling, or by Poisson sampling as privacy's accounting demands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset, default_collate


class Batches:
    """A fixed number of batches that can be gone through once: a second pass would train more than was planned (and paid
    for).
    """

    def __init__(self, dataset: Dataset[Any], indices: Iterator[torch.Tensor], count: int) -> None:
        self._dataset = dataset
        self._indices = indices
        self._count = count

    def through(self, change: Callable[[Iterator[torch.Tensor]], Iterator[torch.Tensor]]) -> Batches:
        """These batches with their indices changed on the way, when they are gone through; their number is what it was."""
        return Batches(self._dataset, change(self._indices), self._count)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        for index in self._indices:
            yield fetch(self._dataset, index)


def size_of(dataset: Dataset[Any]) -> int:
    """Records in a dataset."""
    return len(dataset)  # type: ignore[arg-type]  # torch leaves __len__ to the subclasses; a map-style dataset has it


def shuffled(dataset: Dataset[Any], batch_size: int, steps: int, generator: torch.Generator) -> Batches:
    """`steps` batches of at most `batch_size` records, in passes over a new permutation each."""
    records = size_of(dataset)

    def draw() -> Iterator[torch.Tensor]:
        left = steps
        while left > 0:
            for index in torch.split(torch.randperm(records, generator=generator), batch_size)[:left]:
                left -= 1
                yield index

    return Batches(dataset, draw(), steps)


def poisson(dataset: Dataset[Any], sampling_rate: float, steps: int, generator: torch.Generator) -> Batches:
    """`steps` batches in which each record stands with probability `sampling_rate`, independently; a batch may be empty."""
    records = size_of(dataset)
    draws = ((torch.rand(records, generator=generator) < sampling_rate).nonzero().flatten() for _ in range(steps))
    return Batches(dataset, draws, steps)


def in_order(dataset: Dataset[Any], batch_size: int) -> Batches:
    """Every record once, in order."""
    parts = torch.split(torch.arange(size_of(dataset)), batch_size)
    return Batches(dataset, iter(parts), len(parts))


def fetch(dataset: Dataset[Any], index: torch.Tensor) -> Any:
    """The records at an index as one batch; for none, a batch of the same shape with zero records."""
    if isinstance(dataset, TensorDataset):
        return tuple(tensor[index] for tensor in dataset.tensors)
    if len(index) == 0:
        return _emptied(default_collate([dataset[0]]))
    return default_collate([dataset[int(place)] for place in index])


def _emptied(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch[:0]
    if isinstance(batch, dict):
        return {key: _emptied(value) for key, value in batch.items()}
    return tuple(_emptied(value) for value in batch)
