"""How a bundle reaches a host: plugin and module of the runtime, with the host's own openssl (run by test_runtime_plugin.py)."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgefl.fleet import signature
from edgefl.fleet.bundle import Bundle
from edgefl.pki.authority import Authority
from edgefl.share import share
from edgefl.site.model import Device, Site

sys.path.insert(0, str(share("playbooks") / "collections"))
from ansible_collections.edgefl.host.plugins.action import runtime as action  # found by the line above
from ansible_collections.edgefl.host.plugins.module_utils import bundle as on_host

CONTENT = {
    "app/edgefl.tar.gz": b"code " * 20,
    "wheels/a-1-py3-none-any.whl": b"a",
    "wheels/b-1-cp311-cp311-linux_x86_64.whl": b"b on x86_64",
    "wheels/b-1-cp311-cp311-linux_aarch64.whl": b"b on aarch64",
}


class CutOff(Exception):
    """The link is gone."""


class Host:
    """A host whose cache is a folder, and the operator's bundle. travelled: each part that was sent, in order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.bundle, self.travelled = root, root / "bundle", list[str]()
        self.links = 99
        monkeypatch.setattr(action, "PART_BYTES", 40)
        monkeypatch.setattr(on_host, "CACHE", str(root / "cache"))
        monkeypatch.setattr(on_host, "INCOMING", str(root / "incoming"))
        monkeypatch.setattr(on_host, "AUTHORITY", str(root / "ca.crt"))
        self.authority = self.new_authority("own")
        self.write(CONTENT)

    def new_authority(self, name: str) -> Authority:
        return Authority.open(self.root / name, site=Site(name="t", devices=[Device(name="d")]))

    def write(self, content: dict[str, bytes]) -> None:
        """A bundle of this content, signed."""
        for name, data in content.items():
            (self.bundle / name).parent.mkdir(parents=True, exist_ok=True)
            (self.bundle / name).write_bytes(data)
        wheels = [name.removeprefix("wheels/") for name in content if name.startswith("wheels/")]
        deps = {
            a: {"hash": f"deps-{a}", "wheels": [wheel for wheel in wheels if wheel.endswith(("any.whl", f"{a}.whl"))]}
            for a in ("x86_64", "aarch64")
        }
        files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
        said = {"version": 2, "python": "3.11", "deps": deps, "app_hash": "code", "fab_sha256": "", "files": files}
        (self.bundle / "manifest.json").write_text(json.dumps(said))
        signature.sign(Bundle.load(self.bundle), self.authority)

    def push(self, architecture: str = "x86_64", **other: Any) -> dict[str, Any]:
        """The role's task, once. other: variables in place of those of a host that trains."""
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin.facts = {
            "machine": {"architecture": architecture},
            "runtime": {"venvs": [], "releases": []},
            "commands": {},
            "paths": {},
        }
        plugin.is_checking = False
        plugin.ask, plugin._transfer_file = self.ask, self.transfer
        plugin._connection = SimpleNamespace(_shell=SimpleNamespace(join_path=lambda *parts: "/".join(parts)))
        about = json.loads((self.bundle / "manifest.json").read_text())
        deps = {name: each["hash"] for name, each in about["deps"].items()}
        wanted = {"bundle": str(self.bundle), "authority": str(self.root / "own/pki"), "deps_hashes": deps, "until": "push"}
        return plugin.act({**wanted, "app_hash": about["app_hash"], **other})

    def transfer(self, local: str, remote: str) -> None:
        if len(self.travelled) >= self.links:
            raise CutOff
        self.travelled.append(Path(remote).name)
        shutil.copy(local, remote)

    def ask(self, _: str, **asked: Any) -> dict[str, Any]:
        """The module, as Ansible would run it on the host."""
        files = asked["files"]
        if asked["step"] == "missing":
            missing = on_host.missing(files)
            return {"missing": missing, "incoming": on_host.receive(missing), "held": on_host.held()}
        on_host.check(asked["manifest"], asked["signature"], asked["authority"], files)
        on_host.take(files)
        return {"changed": asked["pushed"]}

    def cached(self) -> set[bytes]:
        return {path.read_bytes() for path in (self.root / "cache").rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_a_host_gets_the_wheels_of_its_own_architecture_in_parts(host: Host) -> None:
    assert host.push("aarch64")["pushed"] == sorted(set(CONTENT) - {"wheels/b-1-cp311-cp311-linux_x86_64.whl"})
    assert host.cached() == {CONTENT["app/edgefl.tar.gz"], b"a", b"b on aarch64"}
    assert len(host.travelled) == 5, "100 bytes in parts of 40 are three"
    assert not (host.root / "incoming").exists()


def test_a_push_that_was_cut_off_goes_on_where_it_stopped(host: Host) -> None:
    host.links = 2
    with pytest.raises(CutOff):
        host.push()
    assert not (host.root / "cache").exists()
    host.links = 99
    host.push()
    assert len(host.travelled) == len(set(host.travelled)) == 5, "nothing travelled twice"
    assert CONTENT["app/edgefl.tar.gz"] in host.cached()


def test_the_next_bundle_brings_only_what_is_new(host: Host) -> None:
    host.push()
    host.write({**CONTENT, "wheels/a-1-py3-none-any.whl": b"a, mended"})
    assert host.push()["pushed"] == ["wheels/a-1-py3-none-any.whl"]
    assert host.push()["pushed"] == []


def test_a_file_that_is_not_the_manifests_is_named_and_not_kept(host: Host) -> None:
    (host.bundle / "wheels/a-1-py3-none-any.whl").write_bytes(b"evil")
    with pytest.raises(on_host.Corrupt, match=r"wheels/a-1-py3-none-any\.whl arrived with another SHA-256"):
        host.push()
    assert b"evil" not in host.cached()


def test_a_manifest_that_was_altered_or_that_nobody_signed_is_refused(host: Host) -> None:
    manifest = host.bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"code"', '"evil"'))
    with pytest.raises(on_host.Unsigned, match="its manifest was altered"):
        host.push()
    (host.bundle / "manifest.sig").unlink()
    with pytest.raises(on_host.Unsigned, match=r"no manifest\.sig"):
        host.push()
    assert not (host.root / "cache").exists()


def test_a_host_with_an_identity_believes_its_own_authority_alone(host: Host) -> None:
    other = host.new_authority("other")
    (host.root / "ca.crt").write_bytes(other.bundle())
    with pytest.raises(on_host.Unsigned, match="not from an authority that this host trusts"):
        host.push()
    (host.root / "ca.crt").write_bytes(other.bundle() + host.authority.bundle())
    assert host.push()["pushed"], "while two roots overlap either is believed"


def test_a_file_that_the_signed_manifest_does_not_have_is_refused(host: Host) -> None:
    manifest = (host.bundle / "manifest.json").read_text()
    signed = action.signature_of(host.bundle)
    with pytest.raises(on_host.Corrupt, match=r"evil\.whl is not in its manifest"):
        on_host.check(manifest, signed, host.authority.bundle().decode(), {"wheels/evil.whl": "0" * 64})


def test_a_host_that_watches_gets_packages_alone(host: Host) -> None:
    packages = {"debs/nftables_1_amd64.deb": b"nft", "watch/prometheus_2_amd64.deb": b"prometheus"}
    host.write({**CONTENT, **packages})
    bare = {"deps_hashes": {}, "app_hash": "", "commands": ["nft"], "watch": ["prometheus"]}
    assert host.push("riscv64", **bare)["pushed"] == sorted(packages)
    assert host.cached() == set(packages.values())
