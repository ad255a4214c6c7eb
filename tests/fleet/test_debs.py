"""Which Debian packages a bundle carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.fleet import debs, store

PRINTED = """\
'http://deb/pool/libgmp10_6.2.1%2bdfsg1-1.1_amd64.deb' libgmp10_2%3a6.2.1+dfsg1-1.1_amd64.deb 562588 MD5Sum:2209aba1
'http://deb/pool/libssl3_3.0.22_amd64.deb' libssl3_3.0.22_amd64.deb 2039888 \n
"""


def test_apts_list_is_read_with_epochs_and_without_hashes() -> None:
    assert debs.parse_uris(PRINTED) == [
        debs.Deb("libgmp10", "2:6.2.1+dfsg1-1.1", "libgmp10_2%3a6.2.1+dfsg1-1.1_amd64.deb", 562588),
        debs.Deb("libssl3", "3.0.22", "libssl3_3.0.22_amd64.deb", 2039888),
    ]


def test_what_every_host_has_is_not_carried() -> None:
    wanted = [debs.Deb(name, "1", "", 0) for name in ("nftables", "libc6", "libmnl0")]
    assert [deb.name for deb in debs.missing(wanted, [debs.Deb("libc6", "1", "", 0)])] == ["libmnl0", "nftables"]


@pytest.mark.slow
@pytest.mark.skipif(debs.release() != debs.RELEASE, reason=f"this is not Debian {debs.RELEASE}")
async def test_the_gate_and_the_firewall_come_with_what_they_need(tmp_path: Path) -> None:
    async for _ in debs.fetch(tmp_path / "debs"):
        pass
    stored = store.read(tmp_path / "debs")
    assert stored
    names = {file.name.split("_")[0] for file in stored.files}
    assert {"haproxy", "nftables", "libnftables1", "liblua5.3-0"} <= names
    assert not {"libc6", "libssl3", "dpkg"} & names


@pytest.mark.slow
@pytest.mark.skipif(debs.release() != debs.RELEASE, reason=f"this is not Debian {debs.RELEASE}")
async def test_what_watches_comes_apart_from_what_every_host_gets(tmp_path: Path) -> None:
    assert debs.place(debs.WATCHING) != debs.place()
    async for _ in debs.fetch(tmp_path / "watch", debs.WATCHING):
        pass
    stored = store.read(tmp_path / "watch")
    assert stored
    names = {file.name.split("_")[0] for file in stored.files}
    assert set(debs.WATCHING) <= names
    assert not {"haproxy", "libc6", "adduser"} & names
