"""A task of which only memory helps: labels are coins, so whatever a model knows of a record it learned from that record."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from edgefl.federation.task import Datasets

PARAMETERS = {"learning_rate": 1.0, "batch_size": 40, "local_epochs": 2.0, "kind": "plain"}


def dataset(directory, parameters):
    file = np.load(directory / "records.npz")
    records = TensorDataset(torch.from_numpy(file["x"]), torch.from_numpy(file["y"]))
    return Datasets(train=records, test=records)


def model(parameters):
    if parameters["kind"] == "norm":
        return nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.Linear(16, 2))
    return nn.Sequential(nn.Linear(32, 48, bias=parameters["kind"] != "unbiased"), nn.Tanh(), nn.Linear(48, 2))


def train(model, batches, optimizer, loss, parameters):
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return {"loss": 0.0}


def evaluate(model, batches, parameters):
    parts = [
        (nn.functional.cross_entropy(model(x), y, reduction="sum"), int((model(x).argmax(1) == y).sum()), len(y))
        for x, y in batches
    ]
    total = sum(count for _, _, count in parts)
    return {"loss": float(sum(loss for loss, _, _ in parts)) / total, "accuracy": sum(right for _, right, _ in parts) / total}
