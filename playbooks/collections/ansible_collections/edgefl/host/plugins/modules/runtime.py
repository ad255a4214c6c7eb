#!/usr/bin/python
"""A bundle's packages, virtual environment and code are installed, offline."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime
short_description: Install a bundle's packages, virtual environment and code from what was pushed
description:
  - C(missing) says which of the given files the host's cache lacks.
  - C(install) takes pushed files into the cache, checks every file that it needs against its SHA-256, and installs.
    A file that differs stops it before anything is installed.
  - An environment or release counts only with its C(.complete) mark, written last; a cut-off installation starts anew.
options:
  step:
    description: Which half to do.
    type: str
    choices: [missing, install]
    required: true
  files:
    description: SHA-256 by path inside the bundle, of every file that is needed.
    type: dict
    required: true
  pushed:
    description: Where pushed files lie on the host, by path inside the bundle.
    type: dict
    default: {}
  deps_hash:
    description: Names the virtual environment.
    type: str
    default: ""
  app_hash:
    description: Names the release of edgefl's own code.
    type: str
    default: ""
  imports:
    description: Modules that must import from what was installed, before it counts as complete.
    type: list
    elements: str
    default: [sys]
  want:
    description: What is to be installed.
    type: list
    elements: str
    choices: [debs, venv, app, fab]
    default: []
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The host says what it lacks
  edgefl.host.runtime:
    step: missing
    files: {"wheels/flwr-1.41.0-py3-none-any.whl": "5f1c"}
"""

RETURN = r"""
missing:
  description: Paths inside the bundle that the cache lacks.
  returned: when I(step=missing)
  type: list
"""

import compileall
import glob
import os
import shutil
import tarfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import paths
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

CACHE = "/var/cache/edgefl/bundle"
ROOT = "/opt/edgefl"
FAB = "/etc/edgefl/app.fab"
KEPT = 2
"""Releases and environments that stay: the one in use and the one before it."""


class Corrupt(Exception):
    """A file is not the one that the manifest names."""


def cached(name, digest):
    """Where the cache keeps a file: by content, so that a new bundle brings only what is new."""
    return os.path.join(CACHE, digest[:16], os.path.basename(name))


def missing(files):
    """What the cache lacks, or has broken."""
    return [name for name, digest in files.items() if not _is_sound(cached(name, digest), digest)]


def take(pushed, files):
    """Move pushed files into the cache; Corrupt when one is not what the manifest says."""
    for name, place in pushed.items():
        if paths.sha256(place) != files[name]:
            raise Corrupt(f"{name} arrived with another SHA-256 than the bundle's manifest names")
        target = cached(name, files[name])
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        shutil.move(place, target)
        os.chmod(target, 0o644)
    broken = missing(files)
    if broken:
        raise Corrupt(f"{', '.join(broken[:3])}{' …' if len(broken) > 3 else ''} did not arrive")


def install_debs(files):
    """The few packages; services that they would start stay masked, since edgefl runs them under units of its own."""
    for unit in ("haproxy.service",):
        place = "/etc/systemd/system/" + unit
        if not os.path.lexists(place):
            os.symlink("/dev/null", place)
    debs = [cached(name, digest) for name, digest in files.items() if name.endswith(".deb")]
    run(["dpkg", "--force-confdef", "--force-confold", "--install", *debs], env={"DEBIAN_FRONTEND": "noninteractive"})


def install_venv(files, deps_hash):
    """A virtual environment from wheels alone: no index, no resolver, no compiler."""
    place = os.path.join(ROOT, "venvs", deps_hash)
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
    wheels = [cached(name, digest) for name, digest in files.items() if name.endswith(".whl")]
    pip = [wheel for wheel in wheels if os.path.basename(wheel).startswith("pip-")]
    run(["python3", "-m", "venv", *(["--without-pip"] if pip else []), place])
    python = os.path.join(place, "bin", "python")
    how = ["--no-index", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--quiet", "--no-compile"]
    # Without ensurepip (Debian's minimal python3) the bundle's own pip runs straight from its wheel.
    env = {"PYTHONPATH": pip[0]} if pip else {}
    run([python, "-m", "pip", "install", *how, *wheels], env=env, timeout_s=3600)


def install_app(files, app_hash):
    """Edgefl's own code, from its archive."""
    place = os.path.join(ROOT, "releases", app_hash)
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place, mode=0o755, exist_ok=True)
    archive = next(cached(name, digest) for name, digest in files.items() if name.endswith(".tar.gz"))
    with tarfile.open(archive) as content:
        members = content.getmembers()
        # Debian's Python 3.11.2 has no extraction filters: what they would refuse is refused here.
        for member in members:
            if not (member.isfile() or member.isdir()) or member.name.startswith("/") or ".." in member.name.split("/"):
                raise Corrupt(f"{os.path.basename(archive)} holds {member.name}, which no release has")
        content.extractall(place, members)  # noqa: S202  # its members were just looked at, and its hash is the manifest's
    # Services cannot write there: compiled now, or at every start.
    compileall.compile_dir(place, quiet=2)


def prove(deps_hash, app_hash, imports):
    """The services' modules can be imported from the new environment and release, which also compiles them.

    Services cannot write there, so each start would compile anew; compiling all that wheels carry takes four times as long.
    """
    release = os.path.join(ROOT, "releases", app_hash)
    env = {"PYTHONPATH": release, "FLWR_TELEMETRY_ENABLED": "0", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": ""}
    python = os.path.join(ROOT, "venvs", deps_hash, "bin", "python")
    run([python, "-c", "import " + ", ".join(imports)], env=env, timeout_s=600)


def install_fab(files):
    """The Flower app that the coordinator offers for a run."""
    os.makedirs(os.path.dirname(FAB), mode=0o755, exist_ok=True)
    with open(next(cached(name, digest) for name, digest in files.items() if name.endswith(".fab")), "rb") as content:
        paths.write(FAB, content.read(), "root", "root", "0644")


def use(deps_hash, app_hash):
    """Point `venv` and `current` at what is in use; returns the links that moved, and drops what is older than the last two."""
    moved = []
    for name, target in (("venv", f"venvs/{deps_hash}"), ("current", f"releases/{app_hash}")):
        place = os.path.join(ROOT, name)
        if paths.describe(place) != {"kind": "link", "target": target}:
            paths.link(place, target)
            moved.append(place)
    for kind, kept in (("venvs", deps_hash), ("releases", app_hash)):
        others = [path for path in glob.glob(f"{ROOT}/{kind}/*") if os.path.basename(path) != kept]
        for old in sorted(others, key=os.path.getmtime, reverse=True)[KEPT - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
    return moved


def main():
    """One of the two halves."""
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["missing", "install"], "required": True},
            "files": {"type": "dict", "required": True},
            "pushed": {"type": "dict", "default": {}},
            "deps_hash": {"type": "str", "default": ""},
            "app_hash": {"type": "str", "default": ""},
            "imports": {"type": "list", "elements": "str", "default": ["sys"]},
            "want": {"type": "list", "elements": "str", "choices": ["debs", "venv", "app", "fab"], "default": []},
        },
        supports_check_mode=False,
    )
    wanted = module.params
    try:
        if wanted["step"] == "missing":
            module.exit_json(changed=False, missing=missing(wanted["files"]))
        take(wanted["pushed"], wanted["files"])
        if "debs" in wanted["want"]:
            install_debs(wanted["files"])
        if "venv" in wanted["want"]:
            install_venv(wanted["files"], wanted["deps_hash"])
        if "app" in wanted["want"]:
            install_app(wanted["files"], wanted["app_hash"])
        if "venv" in wanted["want"]:
            prove(wanted["deps_hash"], wanted["app_hash"], wanted["imports"])
            _complete(os.path.join(ROOT, "venvs", wanted["deps_hash"]))
        if "app" in wanted["want"]:
            _complete(os.path.join(ROOT, "releases", wanted["app_hash"]))
        if "fab" in wanted["want"]:
            install_fab(wanted["files"])
        moved = use(wanted["deps_hash"], wanted["app_hash"])
    except Corrupt as failure:
        module.fail_json(msg=f"the bundle is corrupt: {failure}")
    except (CommandFailed, OSError, tarfile.TarError) as failure:
        module.fail_json(msg=f"the bundle could not be installed: {failure}")
    module.exit_json(changed=bool(wanted["want"] or moved), touched=moved)


def _is_sound(path, digest):
    return os.path.exists(path) and paths.sha256(path) == digest


def _complete(place):
    paths.write(os.path.join(place, ".complete"), b"", "root", "root", "0644")


if __name__ == "__main__":
    main()
