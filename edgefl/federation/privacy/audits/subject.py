"""What is audited: a task, its parameters, the privacy that it claims, and records of its kind on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from edgefl.errors import EdgeflError
from edgefl.federation import batches
from edgefl.federation.outline import Parameters, TaskInvalid
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyTerms, plan, shape_of
from edgefl.federation.task import Task


class AuditUnfit(EdgeflError):
    """There is not enough on this machine to audit with."""


@dataclass(frozen=True)
class Subject:
    """One task under one site's terms. directories: a device's data each. private: the site trains with DP-SGD.

    terms: what the claim is made of; its epsilon_per_run is the site's own.
    """

    task: Task
    parameters: Parameters
    terms: PrivacyTerms
    private: bool
    directories: Sequence[Path]
    seed: int = 7

    @cached_property
    def records(self) -> list[tuple[Tensor, Tensor]]:
        """Each device's training records: features (n, …), labels (n, …)."""
        return [self._read(directory) for directory in self.directories]

    @property
    def per_device(self) -> int:
        """Training records of a device, on average."""
        return max(1, sum(len(labels) for _, labels in self.records) // len(self.records))

    def pool(self, most: int) -> tuple[Tensor, Tensor]:
        """At most so many records of all devices, drawn by the seed."""
        features, labels = (torch.cat(parts) for parts in zip(*self.records, strict=True))
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))[:most]
        return features[order], labels[order]

    def model(self) -> nn.Module:
        """The task's model as a run begins with it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.task.model(self.parameters)

    def loss(self) -> nn.Module:
        """The task's loss, a mean over records."""
        loss = self.task.loss(self.parameters) if self.task.loss is not None else nn.CrossEntropyLoss()
        if getattr(loss, "reduction", None) != "mean":
            raise TaskInvalid("an audit needs a torch loss with reduction='mean'", hint="e.g. nn.CrossEntropyLoss()")
        return loss

    def plan(self, epsilon: float) -> PrivacyPlan:
        """A device's DP-SGD for a claim of `epsilon` a run. Raises PrivacyRefused where a device would."""
        terms = PrivacyTerms(float("inf"), epsilon, self.terms.delta, self.terms.max_grad_norm, self.terms.rounds)
        return plan(terms, self.per_device, self.parameters)

    @property
    def shape(self) -> tuple[float, int]:
        """A device's sampling rate, and its steps a round."""
        return shape_of(self.per_device, self.parameters)

    @cached_property
    def data_sha256(self) -> str:
        """Of every record, in order."""
        digest = hashlib.sha256()
        for tensors in self.records:
            for tensor in tensors:
                digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
                digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
        return digest.hexdigest()

    @cached_property
    def task_sha256(self) -> str:
        """Of the task's source."""
        return hashlib.sha256(self.task.outline.path.read_bytes()).hexdigest()

    def _read(self, directory: Path) -> tuple[Tensor, Tensor]:
        try:
            train = self.task.dataset(directory, self.parameters).train
            batch = batches.fetch(train, torch.arange(batches.size_of(train)))
        except Exception as error:
            raise AuditUnfit(
                f"task {self.task.ref} cannot read {directory}: {type(error).__name__}: {error}",
                hint="--data DIR, a directory as a device of this task has it",
            ) from error
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
            raise AuditUnfit(
                f"task {self.task.ref} gives records of another kind than a tensor of features and a label",
                hint="audits attack tasks whose dataset gives (features, label)",
            )
        return batch[0], batch[1]
