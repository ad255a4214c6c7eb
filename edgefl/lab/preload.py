"""Layers: what installing a bundle adds to the image, made once and shared by every host that starts on it.

Without it each host would install the bundle for itself: seconds of CPU and hundreds of megabytes, times the hosts. The layer has
what the `runtime` role makes on a device, under the same paths and by the same commands, so the role finds its work done.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

from edgefl import layout
from edgefl.lab.capsule import script
from edgefl.lab.command import run
from edgefl.lab.failure import LabFailed
from edgefl.lab.image import appearing
from edgefl.lab.locks import locked
from edgefl.lab.machine import Report, demand, silent
from edgefl.progress import Finished, Started


def preload(image: Path, bundle: Path, *, cache: Path | None = None, report: Report = silent) -> Path:
    """The layer above `image` that holds `bundle`: its wheels in /opt/edgefl/venvs/<deps_hash> and its Debian packages.

    Made on the first call for these dependencies, cached from then on; safe to call from several processes at once.
    Raises LabFailed when `bundle` is none, or does not install.
    """
    bundle = bundle.absolute()
    deps_hash = _deps_hash(bundle)
    layer = (cache or layout.cache()) / "layers" / f"{image.name}-{_key(bundle, deps_hash)}"
    if layer.is_dir():
        return layer
    demand()
    with locked(layer.with_suffix(".lock")):
        if layer.is_dir():
            return layer
        report(Started("lab", "layer", "installing the bundle above the image (once per set of dependencies)"))
        with appearing(layer) as making:
            alone = ["unshare", "--mount", "--net", "--propagation", "private"]
            arguments = [str(image), str(making), str(bundle), deps_hash]
            run([*alone, "sh", "-euc", script("preload.sh"), "preload", *arguments], timeout_s=1200)
        report(Finished("lab", "layer", "installed", changed=True))
    return layer


def _deps_hash(bundle: Path) -> str:
    try:
        deps_hash = json.loads((bundle / "manifest.json").read_text())["deps"][platform.machine()]["hash"]
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise LabFailed(
            f"{bundle} is no bundle: its manifest.json names no wheels for this machine ({wrong!r})",
            hint="edgefl up builds one",
        ) from wrong
    if not isinstance(deps_hash, str) or not deps_hash.isalnum():
        raise LabFailed(f"{bundle}/manifest.json: the wheels' hash is {deps_hash!r}, not a hash", hint="edgefl up builds one")
    if not any((bundle / "wheels").glob("*.whl")):
        raise LabFailed(f"{bundle} has no wheels", hint="edgefl up builds one")
    return deps_hash


def _key(bundle: Path, deps_hash: str) -> str:
    """Changes with what is installed and with how."""
    parts = (deps_hash, script("preload.sh"), *sorted(path.name for path in (bundle / "debs").glob("*.deb")))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
