"""What CI makes of a skipped test: a failure, but for the few reasons that no installation removes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """\
import pytest

def test_that_skips():
    pytest.skip("haproxy is not installed")

@pytest.fixture
def gate():
    pytest.skip("haproxy is not installed")

def test_whose_fixture_skips(gate): ...

def test_on_another_kernel():
    pytest.skip("this kernel does not know PR_SET_MDWE (Linux 6.3)")

@pytest.mark.xfail(reason="known")
def test_that_is_known_to_fail():
    assert False
"""
MODULE = "import pytest\npytest.importorskip('no_such_module')\n"


def outcome(directory: Path, *, required: bool) -> str:
    shutil.copy(Path(__file__).with_name("conftest.py"), directory)
    (directory / "test_some.py").write_text(TESTS)
    (directory / "test_module.py").write_text(MODULE)
    variables = {name: value for name, value in os.environ.items() if name != "EDGEFL_REQUIRE_E2E" and "PYTEST" not in name}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    done = subprocess.run(
        [*command, "--rootdir", directory, directory],
        cwd=directory,
        env=variables | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | ({"EDGEFL_REQUIRE_E2E": "1"} if required else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.slow
def test_a_skipped_test_fails_where_nothing_may_be_skipped(tmp_path: Path) -> None:
    said = outcome(tmp_path, required=True)
    assert said.count("skipped where it must run: haproxy is not installed") == 2
    assert "skipped where it must run: could not import 'no_such_module'" in said
    assert "1 failed, 1 skipped, 1 xfailed, 2 errors" in said


@pytest.mark.slow
def test_a_skipped_test_is_only_skipped_elsewhere(tmp_path: Path) -> None:
    assert "4 skipped, 1 xfailed" in outcome(tmp_path, required=False)
