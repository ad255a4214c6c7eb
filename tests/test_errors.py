"""Every exit code is documented, and an error says what, where and what next."""

from __future__ import annotations

from pathlib import Path

from edgefl.errors import EdgeflError, ExitCode, Where

DOCS = Path(__file__).parent.parent / "docs" / "exit-codes.md"


def test_every_exit_code_has_its_line_in_the_docs() -> None:
    rows = [line.split("|") for line in DOCS.read_text().splitlines()[6:] if "|" in line]
    documented = [(row[1].strip(), row[2].strip(" `")) for row in rows]
    assert documented == [(str(int(code)), code.name) for code in ExitCode]


def test_an_error_shows_its_place_and_the_next_step() -> None:
    error = EdgeflError("it broke", hint="edgefl check", where=(Where(Path("site.yaml"), 18, "  - {name: edge-03}"),))
    assert error.lines() == ["✖ it broke", "  site.yaml:18   - {name: edge-03}", "  next: edgefl check"]
    assert error.as_dict()["where"] == [{"file": "site.yaml", "line": 18, "text": "  - {name: edge-03}"}]
