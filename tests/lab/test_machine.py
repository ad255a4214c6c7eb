import os
import subprocess
import sys

import pytest

ASK = """
import os, sys
from edgefl.errors import NeedsRoot
from edgefl.lab.machine import demand
if os.geteuid() == 0: os.setuid(65534)
try: demand()
except NeedsRoot as error: print("\\n".join(error.lines())); sys.exit(error.exit_code)
"""


def test_without_root_the_lab_says_what_it_needs_and_what_works_without_it() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=False)
    assert done.returncode == 13, done.stderr
    assert "missing: root" in done.stdout
    assert "module: static" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="capabilities can only be dropped by who has them")
def test_root_without_its_capabilities_is_told_which_ones_are_missing() -> None:
    ask = [
        "setpriv",
        "--bounding-set=-sys_admin",
        "--inh-caps=-all",
        sys.executable,
        "-c",
        ASK.replace("os.setuid(65534)", "pass"),
    ]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert done.returncode == 13, done.stderr
    assert "CAP_SYS_ADMIN" in done.stdout
