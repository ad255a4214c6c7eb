"""Records as pictures, where they are such."""

from __future__ import annotations

import base64
import io
from math import isqrt

import torch
from torch import Tensor

LONGEST_STRIP = 128
"""Values of a record that is no picture and is shown as a strip of grey all the same."""


def png(record: Tensor, low: float, high: float) -> str:
    """One record as a PNG in base64; empty where it is neither a picture nor short.

    record: (1, h, w) or (3, h, w), a square number of values, or at most LONGEST_STRIP values. low is black, high is white.
    """
    grid = _grid(record)
    if grid is None:
        return ""
    from PIL import Image  # comes with matplotlib, which draws the report

    shades = ((grid - low) / max(high - low, 1e-12)).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(shades).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _grid(record: Tensor) -> Tensor | None:
    """(h, w), or (h, w, 3) in colour."""
    if record.dim() == 3 and len(record) in {1, 3}:
        return record[0] if len(record) == 1 else record.permute(1, 2, 0)
    flat = record.flatten()
    side = isqrt(len(flat))
    if side * side == len(flat) and side > 3:
        return flat.view(side, side)
    return flat.view(1, -1) if len(flat) <= LONGEST_STRIP else None
