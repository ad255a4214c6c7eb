"""Short commands leave nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from edgefl.infra.commands import Short


@pytest.fixture
def engine(tmp_path: Path) -> str:
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\necho ran $*\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("missing", [False, True])
def test_init_leaves_no_file_of_variables(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch, missing: bool) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    short = Short(f"{engine}-missing" if missing else engine, tmp_path, {})
    if missing:
        with pytest.raises(FileNotFoundError):
            short.init()
    else:
        code, said, _ = short.init()
        assert code == 0
        assert said.startswith("ran init")
    assert list(scratch.iterdir()) == []
