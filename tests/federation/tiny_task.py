"""A small task for tests: which side of a line a point lies on."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from edgefl.federation.task import Datasets

PARAMETERS = {"learning_rate": 0.3, "batch_size": 40, "local_epochs": 2.0, "norm": False}


def dataset(directory, parameters):
    file = np.load(directory / "records.npz")
    records = TensorDataset(torch.from_numpy(file["x"]), torch.from_numpy(file["y"]))
    return Datasets(train=records, test=records)


def model(parameters):
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3) if parameters["norm"] else nn.Tanh(), nn.Linear(3, 2))


def train(model, batches, optimizer, loss, parameters):
    total = 0.0
    for x, y in batches:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        total += value.item() if len(y) else 0.0
    return {"loss": total}


def evaluate(model, batches, parameters):
    parts = [(nn.functional.cross_entropy(model(x), y, reduction="sum"), len(y)) for x, y in batches]
    return {"loss": float(sum(part for part, _ in parts)) / sum(count for _, count in parts)}
