"""A lab host's disk and what the lab knows of the host: one directory each, which outlives crashes, kills and reboots.

hosts/<name>/host.json     the host as it was asked for, and the layers below its disk
hosts/<name>/upper, work   the overlay's own part: everything that the host ever wrote
hosts/<name>/rootfs        where the overlay is mounted, within the capsule
hosts/<name>/console.log   what the host said on its console since it was last started
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgefl.lab.failure import LabFailed
from edgefl.lab.keys import keypair
from edgefl.lab.spec import HostSpec

_DATA = "srv/edgefl/data"


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of one host. lowers: the layers below it, the uppermost first; they never change while it exists."""

    directory: Path
    spec: HostSpec
    image: Path
    layer: Path | None

    @classmethod
    def load(cls, directory: Path) -> Disk | None:
        """The disk in a directory; None when there is none, or its making was interrupted. LabFailed when it is damaged."""
        file = directory / "host.json"
        try:
            values = json.loads(file.read_text())
            layer = None if values["layer"] is None else Path(values["layer"])
            return cls(directory, HostSpec.from_dict(values["spec"]), Path(values["image"]), layer)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as damage:
            raise LabFailed(
                f"{file} is damaged: {damage!r}", hint="edgefl lab down erases the lab, and edgefl up makes it anew"
            ) from damage

    @classmethod
    def make(cls, directory: Path, spec: HostSpec, image: Path, layer: Path | None, operator_key: str) -> Disk:
        """A new disk with the host's name, keys and data on it; what an interrupted making left is thrown away.

        Raises LabFailed, leaving nothing, when the data cannot be copied.
        """
        shutil.rmtree(directory, ignore_errors=True)
        disk = cls(directory, spec, image, layer)
        try:
            for name in ("upper", "work", "rootfs"):
                (directory / name).mkdir(parents=True)
            disk._seed(operator_key)
            disk.save()
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return disk

    def save(self) -> None:
        """Remember what is known of the host; from then on it exists."""
        partial = self.directory / "host.partial"
        layer = None if self.layer is None else str(self.layer)
        partial.write_text(json.dumps({"spec": self.spec.as_dict(), "image": str(self.image), "layer": layer}, indent=2) + "\n")
        partial.rename(self.directory / "host.json")

    @property
    def host_key(self) -> str:
        """The host's public SSH key."""
        return keypair(self.directory / "upper/etc/ssh/ssh_host_ed25519_key", self.spec.name)

    @property
    def console(self) -> Path:
        """The log of the host's console."""
        return self.directory / "console.log"

    @property
    def rootfs(self) -> Path:
        """Where the disk is mounted."""
        return self.directory / "rootfs"

    def mount_script(self) -> str:
        """Shell: mount the disk unless it is mounted. $1 is the disk's directory, $2 the layers below it."""
        return 'cd "$1"; mountpoint -q rootfs || mount -t overlay lab -o "lowerdir=$2,upperdir=upper,workdir=work" rootfs'

    def lowers(self) -> str:
        """The layers below the disk, as mount(8) takes them; LabFailed when one is gone or has a name that mount cannot take."""
        layers = [*([] if self.layer is None else [self.layer]), self.image]
        for layer in layers:
            if not (layer / "rootfs").is_dir():
                raise LabFailed(
                    f"{self.spec.name}'s disk lies on {layer}, which is gone", hint=f"edgefl lab delete {self.spec.name}"
                )
            if set(str(layer)) & set(":,\\ "):
                raise LabFailed(f"the cache directory {layer} has a character in its name that overlayfs cannot take")
        return ":".join(str(layer / "rootfs") for layer in layers)

    def _seed(self, operator_key: str) -> None:
        upper, name = self.directory / "upper", self.spec.name
        upper.chmod(0o755)  # it is the host's root directory, whatever the caller's umask
        for path, mode in (("etc", 0o755), ("etc/ssh", 0o755), ("root", 0o700), ("root/.ssh", 0o700)):
            (upper / path).mkdir()
            (upper / path).chmod(mode)
        keypair(upper / "etc/ssh/ssh_host_ed25519_key", name)
        self._write("etc/hostname", f"{name}\n")
        self._write("etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")
        self._write("root/.ssh/authorized_keys", f"{operator_key} operator\n", mode=0o600)
        if self.spec.data is not None:
            self._copy_data(self.spec.data)

    def _write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.directory / "upper" / path
        file.write_text(text)
        file.chmod(mode)

    def _copy_data(self, source: Path) -> None:
        target = self.directory / "upper" / _DATA
        target.mkdir(parents=True)
        try:
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        except OSError as missing:
            raise LabFailed(f"the data of {self.spec.name} cannot be copied from {source}: {missing}") from missing
        for directory in (target, *list(target.parents)[:2]):
            directory.chmod(0o755)
