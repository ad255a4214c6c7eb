"""The runtime's plugin and module, in a process of their own: Ansible changes `sys.intern`, with which torch cannot load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_host_takes_what_its_authority_signed_and_nothing_else() -> None:
    inner = Path(__file__).with_name("runtime_on_folders.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(inner)]
    done = subprocess.run(command, cwd=inner.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
