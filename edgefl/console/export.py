"""A table as a file for others: the values behind what is on the screen, as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from edgefl.console.widgets.columns import Column, T

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(columns: Sequence[Column[T]], rows: Iterable[T]) -> str:
    """RFC 4180, with the columns' keys as its header.

    What a device said may begin as a spreadsheet's formula would: a quote before it keeps it text.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([column.key for column in columns])
    writer.writerows([_cell(column.value(row)) for column in columns] for row in rows)
    return out.getvalue()


def as_json(columns: Sequence[Column[T]], rows: Iterable[T]) -> str:
    """One object per row: numbers are numbers, and what is not known is null."""
    return json.dumps([{column.key: _json(column.value(row)) for column in columns} for row in rows], indent=2) + "\n"


def write(directory: Path, name: str, ending: str, text: str, now: datetime) -> Path:
    """A new file `NAME-20260302T090439Z.ENDING`, never over another one. OSError when it cannot be written."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    for copy in range(1, 1000):
        path = directory / (f"{name}-{stamp}.{ending}" if copy == 1 else f"{name}-{stamp}-{copy}.{ending}")
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{directory} has a thousand exports of this second")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    text = value if isinstance(value, str) else " ".join(map(str, value))
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # as in the journal: JSON has none
    return value if isinstance(value, str | int | float | None) else [_json(each) for each in value]
