"""Ten numbers, two kinds: a model of 22 values. Whoever names a file in TEST_HOLD has training wait while it is there."""

import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from edgefl.federation.task import Datasets

PARAMETERS = {"learning_rate": 0.5, "batch_size": 32, "local_epochs": 1.0}
METRICS = ("loss",)


def dataset(directory, parameters):
    with np.load(directory / "records.npz") as file:
        x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
    return Datasets(TensorDataset(x[:-20], y[:-20]), TensorDataset(x[-20:], y[-20:]))


def model(parameters):
    return nn.Linear(10, 2)


def train(model, batches, optimizer, loss, parameters):
    while Path(os.environ.get("TEST_HOLD", "/nowhere")).exists():
        time.sleep(0.05)
    total = count = 0
    for x, y in batches:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        total, count = total + value.item(), count + 1
    return {"loss": total / max(count, 1)}


def evaluate(model, batches, parameters):
    right = loss = seen = 0
    for x, y in batches:
        scores = model(x)
        right += int((scores.argmax(1) == y).sum())
        loss += float(nn.functional.cross_entropy(scores, y, reduction="sum"))
        seen += len(y)
    return {"loss": loss / seen, "accuracy": right / seen}
