"""The disk that lab hosts share: a Debian 12 built once by mmdebstrap, and layers above it that hold a bundle.

    <cache>/images/<key>/rootfs     the overlay's lowest layer, never changed after it is made
    <cache>/images/<key>/nspawn     the systemd-nspawn of the same release; it runs on the image's own libraries, so nothing of
                                    systemd is needed on the machine
    <cache>/layers/<key>-<hash>     what installing a bundle adds to the image

`<cache>` is the operator's (`layout.cache`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefl import layout
from edgefl.lab.capsule import script
from edgefl.lab.command import run
from edgefl.lab.failure import LabFailed
from edgefl.lab.locks import locked
from edgefl.lab.machine import IMAGE_TOOLS, Report, demand, provide, silent
from edgefl.progress import Finished, Started

RELEASE = "bookworm"
PACKAGES = (
    *(
        "systemd",
        "systemd-sysv",
        "dbus",
        "openssh-server",
        "openssh-client",
        "python3",
        "python3-venv",
        "python3-apt",
        "nftables",
    ),
    *("iproute2", "iputils-ping", "ca-certificates", "sudo", "curl", "acl", "procps"),
)
UNUSED_UNITS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer"),
    *("dpkg-db-backup.timer", "console-getty.service", "systemd-networkd-wait-online.service", "systemd-pcrphase.service"),
)
"""Masked: a lab host has no internet to update from, no disk of its own to trim, and no console."""
SOURCES = "EDGEFL_APT_SOURCES"
"""The variable that names a file of apt sources for the image, where the machine itself does not run its release."""


def image(cache: Path | None = None, *, report: Report = silent) -> Path:
    """The image's directory, built on the first call (about a minute, from the machine's Debian mirror) and cached.

    Safe to call from several processes at once: one builds, the others wait for it.
    Raises NeedsRoot where no lab can stand, LabFailed when the build fails; a failed build leaves nothing.
    """
    made = (cache or layout.cache()) / "images" / _image_key()
    if made.is_dir():
        return made
    demand()
    provide(IMAGE_TOOLS, report)
    with locked(made.with_suffix(".lock")):
        if made.is_dir():
            return made
        report(Started("lab", "image", f"building Debian {RELEASE} (once on this machine)"))
        with appearing(made) as building:
            _build(building)
        report(Finished("lab", "image", "built", changed=True))
    return made


def nspawn(image: Path) -> list[str]:
    """The command that runs the image's systemd-nspawn on the machine, with the image's loader and libraries."""
    root = image / "rootfs"
    multiarch = f"{platform.machine()}-linux-gnu"
    loader = next(iter(sorted((root / "usr/lib" / multiarch).glob("ld-linux*.so.*"))), None)
    binary = image / "nspawn/usr/bin/systemd-nspawn"
    if loader is None or not binary.exists():
        raise LabFailed(f"the image {image} is damaged: it has no loader or no systemd-nspawn", hint=f"rm -r {image}")
    libraries = f"{root}/usr/lib/{multiarch}:{root}/usr/lib/{multiarch}/systemd"
    tmp_on_disk = ["env", "SYSTEMD_NSPAWN_TMPFS_TMP=0"]  # as on a Debian machine, not in the host's memory
    return [*tmp_on_disk, str(loader), "--library-path", libraries, str(binary)]


def _image_key() -> str:
    """Changes with anything that makes another image: release, architecture, packages, and how it is built."""
    parts = (RELEASE, platform.machine(), *PACKAGES, *UNUSED_UNITS, script("customize.sh"), script("init.sh"))
    return f"{RELEASE}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"


def _build(into: Path) -> None:
    rootfs = into / "rootfs"
    with tempfile.TemporaryDirectory(prefix="edgefl-image-") as temporary:
        here = Path(temporary)
        for name in ("customize.sh", "init.sh"):
            (here / name).write_text(script(name))
        run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                '--aptopt=APT::Install-Recommends "false"',
                '--aptopt=Acquire::Retries "3"',
                *(f"--aptopt={line}" for line in _apt_proxies()),
                *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc", "info")),
                f'--customize-hook=sh -eu "{here}/customize.sh" "$1" "{here}/init.sh" "{into}/nspawn" {" ".join(UNUSED_UNITS)}',
                RELEASE,
                str(rootfs),
                str(_sources()),
            ],
            timeout_s=1200,
        )


def _sources() -> Path:
    """Where the image's packages come from: the machine's own Debian sources where it runs the same release, since its mirror is
    the one that is known to be reachable, else the file that the operator names. Raises LabFailed.
    """
    if named := os.environ.get(SOURCES):
        return Path(named)
    if f"VERSION_CODENAME={RELEASE}" in Path("/etc/os-release").read_text():
        for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
            if path.exists() and RELEASE in path.read_text():
                return path
    raise LabFailed(f"this machine has no apt sources of Debian {RELEASE}", hint=f"{SOURCES}=FILE with sources of {RELEASE}")


def _apt_proxies() -> Iterator[str]:
    """The machine's proxy settings for apt, which mmdebstrap does not take over by itself."""
    for line in run(["apt-config", "dump"]).splitlines():
        if line.startswith(("Acquire::http::Proxy ", "Acquire::https::Proxy ", "Acquire::https::CAInfo ")):
            yield line


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A directory to fill that becomes `path` when the body ends well, and vanishes when it does not."""
    filling = path.with_name(f"{path.name}.{os.getpid()}.partial")
    shutil.rmtree(filling, ignore_errors=True)
    filling.mkdir(parents=True)
    try:
        yield filling
        filling.rename(path)
    finally:
        shutil.rmtree(filling, ignore_errors=True)
