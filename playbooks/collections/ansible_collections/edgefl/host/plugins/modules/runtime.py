#!/usr/bin/python
"""A bundle's packages, virtual environment and code are installed, offline."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime
short_description: Install a bundle's packages, virtual environment and code from what was pushed
description:
  - C(missing) says which of the given files the host's cache lacks, where parts of them may be put, and which parts are there.
  - C(keep) checks that an authority whom the host trusts signed the manifest and that the manifest names these files, then takes
    what was pushed into the cache, each file against its SHA-256. What differs stops it before anything is kept.
  - C(install) does the same, and installs.
  - An environment or release counts only with its C(.complete) mark, written last; a cut-off installation starts anew.
options:
  step:
    description: What to do.
    type: str
    choices: [missing, keep, install]
    required: true
  files:
    description: SHA-256 by path inside the bundle, of every file that is needed.
    type: dict
    required: true
  pushed:
    description: Whether files were pushed since C(missing).
    type: bool
    default: false
  manifest:
    description: The bundle's manifest, as it was signed.
    type: str
    default: ""
  signature:
    description: The signature over it, base64.
    type: str
    default: ""
  authority:
    description: PEM of whom the operator trusts; it counts only on a host that has no identity yet.
    type: str
    default: ""
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
  use:
    description: Whether what is installed is put to use.
    type: bool
    default: true
  prove:
    description: Whether C(imports) must import from a new release, too; from a new environment they always must.
    type: bool
    default: false
  want:
    description: What is to be installed.
    type: list
    elements: str
    choices: [debs, venv, app, fab, watch, exporter, tunnel]
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
incoming:
  description: Where parts of them are awaited.
  returned: when I(step=missing)
  type: str
held:
  description: Size in bytes by name, of parts that an earlier push left there.
  returned: when I(step=missing)
  type: dict
"""

import compileall
import glob
import os
import shutil
import tarfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import bundle, paths
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

ROOT = "/opt/edgefl"
FAB = "/etc/edgefl/app.fab"
SERVICES = ("haproxy", "prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
"""Packages that bring a unit of their own."""


def install_debs(files):
    """The few packages; services that they would start stay masked, since edgefl runs them under units of its own."""
    names = [os.path.basename(name).split("_")[0] for name in files]
    for unit in [name + ".service" for name in names if name in SERVICES]:
        place = "/etc/systemd/system/" + unit
        if not os.path.lexists(place):
            os.symlink("/dev/null", place)
    debs = [bundle.cached(name, digest) for name, digest in files.items() if name.endswith(".deb")]
    run(["dpkg", "--force-confdef", "--force-confold", "--install", *debs], env={"DEBIAN_FRONTEND": "noninteractive"})


def install_venv(files, deps_hash):
    """A virtual environment from wheels alone: no index, no resolver, no compiler."""
    place = os.path.join(ROOT, "venvs", deps_hash)
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
    wheels = [bundle.cached(name, digest) for name, digest in files.items() if name.endswith(".whl")]
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
    archive = next(bundle.cached(name, digest) for name, digest in files.items() if name.endswith(".tar.gz"))
    with tarfile.open(archive) as content:
        members = content.getmembers()
        # Debian's Python 3.11.2 has no extraction filters: what they would refuse is refused here.
        for member in members:
            if not (member.isfile() or member.isdir()) or member.name.startswith("/") or ".." in member.name.split("/"):
                raise bundle.Corrupt(f"{os.path.basename(archive)} holds {member.name}, which no release has")
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
    with open(next(bundle.cached(name, digest) for name, digest in files.items() if name.endswith(".fab")), "rb") as content:
        paths.write(FAB, content.read(), "root", "root", "0644")


def use(deps_hash, app_hash):
    """Point `venv` and `current` at what is in use; returns the links that moved. What was in use before stays, the rest goes."""
    moved = []
    for name, target in (("venv", f"venvs/{deps_hash}"), ("current", f"releases/{app_hash}")):
        place = os.path.join(ROOT, name)
        before = paths.describe(place) or {}
        if before == {"kind": "link", "target": target}:
            continue
        paths.link(place, target)
        moved.append(place)
        kept = {target, before.get("target", "")}
        for old in glob.glob(f"{ROOT}/{os.path.dirname(target)}/*"):
            if os.path.relpath(old, ROOT) not in kept:
                shutil.rmtree(old, ignore_errors=True)
    return moved


def install(wanted):
    """Install what is wanted from the cache, prove it and put it to use; returns the links that moved."""
    if {"debs", "watch", "exporter", "tunnel"} & set(wanted["want"]):
        install_debs(wanted["files"])
    if "venv" in wanted["want"]:
        install_venv(wanted["files"], wanted["deps_hash"])
    if "app" in wanted["want"]:
        install_app(wanted["files"], wanted["app_hash"])
    if "venv" in wanted["want"] or ("app" in wanted["want"] and wanted["prove"]):
        prove(wanted["deps_hash"], wanted["app_hash"], wanted["imports"])
    if "venv" in wanted["want"]:
        _complete(os.path.join(ROOT, "venvs", wanted["deps_hash"]))
    if "app" in wanted["want"]:
        _complete(os.path.join(ROOT, "releases", wanted["app_hash"]))
    if "fab" in wanted["want"]:
        install_fab(wanted["files"])
    return use(wanted["deps_hash"], wanted["app_hash"]) if wanted["use"] else []


def main():
    """One of the steps."""
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["missing", "keep", "install"], "required": True},
            "files": {"type": "dict", "required": True},
            "pushed": {"type": "bool", "default": False},
            "manifest": {"type": "str", "default": ""},
            "signature": {"type": "str", "default": ""},
            "authority": {"type": "str", "default": ""},
            "deps_hash": {"type": "str", "default": ""},
            "app_hash": {"type": "str", "default": ""},
            "imports": {"type": "list", "elements": "str", "default": ["sys"]},
            "prove": {"type": "bool", "default": False},
            "use": {"type": "bool", "default": True},
            "want": {
                "type": "list",
                "elements": "str",
                "choices": ["debs", "venv", "app", "fab", "watch", "exporter", "tunnel"],
                "default": [],
            },
        },
        supports_check_mode=False,
    )
    wanted = module.params
    try:
        if wanted["step"] == "missing":
            missing = bundle.missing(wanted["files"])
            module.exit_json(changed=False, missing=missing, incoming=bundle.receive(missing), held=bundle.held())
        bundle.check(wanted["manifest"], wanted["signature"], wanted["authority"], wanted["files"])
        bundle.take(wanted["files"])
        if wanted["step"] == "keep":
            module.exit_json(changed=bool(wanted["pushed"]), touched=[])
        moved = install(wanted)
    except bundle.Corrupt as failure:
        module.fail_json(msg=f"the bundle is corrupt: {failure}")
    except bundle.Unsigned as failure:
        module.fail_json(msg=f"the bundle is not signed: {failure}")
    except (CommandFailed, OSError, tarfile.TarError) as failure:
        module.fail_json(msg=f"the bundle could not be installed: {failure}")
    module.exit_json(changed=bool(wanted["want"] or moved), touched=moved)


def _complete(place):
    paths.write(os.path.join(place, ".complete"), b"", "root", "root", "0644")


if __name__ == "__main__":
    main()
