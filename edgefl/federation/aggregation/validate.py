"""Whether a reply can be an update at all, before any rule looks at it: one NaN would poison a median, one lie a mean.

A rejection is recorded and counted as a missing update; it never stops a round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from edgefl.events.schema import Reason
from edgefl.federation.aggregation.vectors import Arrays, Template

MOST_SAMPLES = 100_000_000
"""No device holds more records; a larger claim is a lie (or an overflow)."""
MOST_GROWTH = 2.0
"""A device's records do not double within a run."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a reply is no update: the event `update_rejected` without its device."""

    reason: Reason
    detail: str


def check_claims(
    samples: object, metrics: Mapping[str, Any], expected_metrics: tuple[str, ...], *, claimed_before: int | None = None
) -> Rejection | None:
    """Why what a device says of its update cannot be true; None when it can.

    samples: what it claims to have trained on. claimed_before: its claim in the run's earlier rounds. Whatever passes is still
    only a claim: rules cap what it weighs.
    """
    return _samples_problem(samples, claimed_before) or _metrics_problem(metrics, expected_metrics)


def check_arrays(arrays: Arrays, template: Template) -> Rejection | None:
    """Why these arrays are no model that could be averaged with others; None when they are one."""
    if arrays.keys() != template.shapes.keys():
        missing = sorted(template.shapes.keys() - arrays.keys())
        extra = sorted(arrays.keys() - template.shapes.keys())
        return Rejection("keys", f"missing {missing}, unexpected {extra}" if missing else f"unexpected {extra}")
    for name, shape in template.shapes.items():
        array = arrays[name]
        if array.shape != shape:
            return Rejection("shape", f"{name} is {array.shape}, not {shape}")
        if array.dtype != template.dtypes[name]:
            return Rejection("shape", f"{name} is {array.dtype}, not {template.dtypes[name]}")
    for name in template.shapes:
        # A sum is finite exactly when all its terms are, but for overflow: look closer only then.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(arrays[name].sum(dtype=np.float64))
        if suspicious and (bad := int(arrays[name].size - np.isfinite(arrays[name]).sum())):
            return Rejection("not_finite", f"{name} holds {bad} values that are not finite")
    return None


def _samples_problem(samples: object, claimed_before: int | None) -> Rejection | None:
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer):
        return Rejection("samples", f"{samples!r} is not a count")
    if not 0 < samples <= MOST_SAMPLES:
        return Rejection("samples", f"{samples} records are not between 1 and {MOST_SAMPLES}")
    if claimed_before and samples > MOST_GROWTH * claimed_before:
        return Rejection("samples", f"{samples} records now, {claimed_before} before in the same run")
    return None


def _metrics_problem(metrics: Mapping[str, Any], expected: tuple[str, ...]) -> Rejection | None:
    if sorted(metrics) != sorted(expected):
        return Rejection("metrics", f"has {sorted(metrics)}, not {sorted(expected)}")
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not isfinite(float(value)):
            return Rejection("metrics", f"{name} is {value!r}, not a finite number")
    return None
