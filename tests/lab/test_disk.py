import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefl.lab.disk import Disk
from edgefl.lab.failure import LabFailed
from edgefl.lab.spec import HostSpec


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def make(directory: Path, **changes: object) -> Disk:
    spec = HostSpec.from_dict({"name": "edge-01", "address": "10.77.0.11", **changes})
    return Disk.make(directory / "edge-01", spec, directory / "image", directory / "layer", "ssh-ed25519 AAAA")


@pytest.mark.usefixtures("strict_umask")
def test_a_new_disk_has_name_keys_and_data_with_modes_that_a_host_can_live_with(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/records.csv").write_text("1,2\n")
    disk = make(tmp_path, data=str(tmp_path / "data"))
    upper = disk.directory / "upper"
    modes = {path: (upper / path).stat().st_mode & 0o777 for path in (".", "etc", "etc/hostname", "etc/ssh", "srv/edgefl/data")}
    assert modes == {".": 0o755, "etc": 0o755, "etc/hostname": 0o644, "etc/ssh": 0o755, "srv/edgefl/data": 0o755}
    assert (upper / "root/.ssh").stat().st_mode & 0o777 == 0o700
    assert (upper / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (upper / "srv/edgefl/data/records.csv").read_text() == "1,2\n"
    assert disk.host_key.startswith("ssh-ed25519 AAAA")


def test_what_is_known_of_a_host_is_read_back(tmp_path: Path) -> None:
    disk = make(tmp_path, cpu=0.5, uplink_mbit=20.0)
    assert Disk.load(disk.directory) == disk
    assert Disk.load(tmp_path / "none") is None


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    disk = make(tmp_path)
    (disk.directory / "host.json").write_text('{"spec": {"nam')
    with pytest.raises(LabFailed, match=r"host\.json is damaged"):
        Disk.load(disk.directory)


def test_a_disk_whose_data_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LabFailed, match=r"the data of edge-01 cannot be copied from .*nowhere"):
        make(tmp_path, data=str(tmp_path / "nowhere"))
    assert not (tmp_path / "edge-01").exists()


def test_a_disk_on_an_image_that_is_gone_says_so(tmp_path: Path) -> None:
    disk = make(tmp_path)
    (tmp_path / "layer/rootfs").mkdir(parents=True)
    with pytest.raises(LabFailed, match="image, which is gone"):
        disk.lowers()
    (tmp_path / "image/rootfs").mkdir(parents=True)
    assert disk.lowers() == f"{tmp_path}/layer/rootfs:{tmp_path}/image/rootfs"
