"""What is on the screen as a file for others: a table's values as CSV or JSON, the screen's picture as PNG."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from edgefl.console.widgets.columns import Column, T
from edgefl.errors import EdgeflError

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


class NoPicture(EdgeflError):
    """A PNG cannot be drawn on this machine."""


def as_png(svg: str) -> bytes:
    """Textual's SVG of a screen as PNG, in this machine's monospace font. Blocks. Raises NoPicture."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise NoPicture("a PNG needs resvg-py, which is not installed", hint="pip install 'edgefl[png]'") from error
    try:
        asked = subprocess.run(["fc-match", "-f", "%{family[0]}", "monospace"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoPicture("fontconfig names no monospace font", hint="apt install fontconfig fonts-dejavu-core") from error
    drawn = svg_to_bytes(svg_string=svg.replace("font-family: arial", "font-family: monospace"), monospace_family=asked.stdout)
    return bytes(drawn)


def write(directory: Path, name: str, ending: str, content: str | bytes, now: datetime) -> Path:
    """A new file `NAME-20260302T090439Z.ENDING`, never over another one. OSError when it cannot be written."""
    said = content.encode() if isinstance(content, str) else content
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    for copy in range(1, 1000):
        path = directory / (f"{name}-{stamp}.{ending}" if copy == 1 else f"{name}-{stamp}-{copy}.{ending}")
        try:
            with path.open("xb") as file:
                file.write(said)
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
