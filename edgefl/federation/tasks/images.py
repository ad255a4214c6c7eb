"""Images: recognise ten kinds of clothing in 28x28 grey pictures (Fashion-MNIST, MIT licence, Debian's
`dataset-fashion-mnist`).

A device's directory holds `train.npz` and `test.npz`, each with `images` (n, 28, 28) uint8 and `labels` (n,) integers below
10. Any grey images of that size will do. `python -m edgefl.lab.data --task images` makes such directories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from edgefl.federation.outline import Parameters
from edgefl.federation.task import Datasets

PARAMETERS = {
    "learning_rate": 3.0,
    "momentum": 0.0,
    "batch_size": 512,
    "local_epochs": 4.0,
    "model": "mlp",
}
"""Chosen for DP-SGD at epsilon 4 over 10 rounds of 8 devices with 4,000 images each; gradients are clipped there, so the rate
is high. Without privacy a rate of 0.1 and batches of 64 are better."""
METRICS = ("loss", "accuracy")


def dataset(directory: Path, parameters: Parameters) -> Datasets:
    """The device's images, as (n, 1, 28, 28) float32 around 0, with their labels."""
    return Datasets(train=_read(directory / "train.npz"), test=_read(directory / "test.npz"))


def model(parameters: Parameters) -> nn.Module:
    """`mlp`: pictures shrunk to 14x14 and one hidden layer, 6,634 weights; `cnn`: two convolutions, 26,010 weights.

    Small on purpose: the noise of DP-SGD grows with every weight, what is learned does not, and a device whose update is
    mostly noise is hard to tell from an attacker. tanh keeps clipped gradients alive (Papernot et al., 2021, arXiv:2007.14191).
    """
    if parameters["model"] == "mlp":
        return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, 32), nn.Tanh(), nn.Linear(32, 10))
    if parameters["model"] != "cnn":
        raise ValueError(f"parameter `model` is {parameters['model']!r}, but must be `mlp` or `cnn`")
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    )


def train(model: nn.Module, batches: Iterable[Any], optimizer: Any, loss: Any, parameters: Parameters) -> Mapping[str, float]:
    """One local pass. Also right for an empty batch, which Poisson sampling may draw: its step is noise alone."""
    total, right, seen = 0.0, 0, 0
    for images, labels in batches:
        optimizer.zero_grad()
        scores = model(images)
        value = loss(scores, labels)
        value.backward()
        optimizer.step()
        if len(labels):
            total += value.item() * len(labels)
            right += int((scores.argmax(1) == labels).sum())
            seen += len(labels)
    return {"loss": total / max(1, seen), "accuracy": right / max(1, seen)}


def evaluate(model: nn.Module, batches: Iterable[Any], parameters: Parameters) -> Mapping[str, float]:
    """Mean cross-entropy and accuracy."""
    total, right, seen = 0.0, 0, 0
    for images, labels in batches:
        scores = model(images)
        total += float(nn.functional.cross_entropy(scores, labels, reduction="sum"))
        right += int((scores.argmax(1) == labels).sum())
        seen += len(labels)
    return {"loss": total / max(1, seen), "accuracy": right / max(1, seen)}


def _read(path: Path) -> TensorDataset:
    with np.load(path, allow_pickle=False) as file:
        images = torch.from_numpy(file["images"].astype(np.float32) / 127.5 - 1).reshape(-1, 1, 28, 28)
        return TensorDataset(images, torch.from_numpy(file["labels"].astype(np.int64)))
