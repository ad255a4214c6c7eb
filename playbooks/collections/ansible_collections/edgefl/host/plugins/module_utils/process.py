"""Commands on this host, and what went wrong with them in words."""

from __future__ import annotations

import os
import subprocess

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandFailed(Exception):
    """A command ended badly; the text is its own last words."""


def run(argv, *, check=True, stdin=None, env=None, timeout_s=600):
    """Run `argv` and return (exit code, stdout, stderr). Raises CommandFailed when `check` and it failed or is not there."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PATH": _PATH, "LC_ALL": "C.UTF-8", **(env or {})},
        )
    except FileNotFoundError as error:
        if check:
            raise CommandFailed(f"{argv[0]} is not installed on this host") from error
        return 127, "", f"{argv[0]} is not installed on this host"
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{' '.join(argv[:3])} did not end within {timeout_s} s") from error
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise CommandFailed(f"{' '.join(argv[:4])} failed ({done.returncode}): {said}")
    return done.returncode, done.stdout, done.stderr


def which(command):
    """Where a command lies on an administrator's PATH; None when it is missing."""
    for directory in _PATH.split(":"):
        candidate = os.path.join(directory, command)
        if os.access(candidate, os.X_OK):
            return candidate
    return None
