"""A device's keys, each where its owner alone has it: plugin and module of the identity (run by test_identity_plugin.py)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edgefl.federation.messages import Keys
from edgefl.federation.secure.signing import Round, signed, verify
from edgefl.pki.anchors import Anchors
from edgefl.pki.authority import Authority
from edgefl.pki.errors import CertificateRefused
from edgefl.share import share
from edgefl.site import load
from edgefl.site.addresses import tunnelled

sys.path.insert(0, str(share("playbooks") / "collections"))
from ansible_collections.edgefl.host.plugins.action import identity as action  # found by the line above
from ansible_collections.edgefl.host.plugins.module_utils import paths
from ansible_collections.edgefl.host.plugins.modules import facts as facts_module
from ansible_collections.edgefl.host.plugins.modules import identity as module

KEYS = [{"name": "device", "owner": "edgefl-node"}, {"name": "signer", "owner": "edgefl-app"}]
DEFAULTS = {"directory": "", "joined": False, "subject": ""}
NO_SOLE_KEYS = {"node_key": "", "tunnel_key": ""}


class Device:
    """A host whose /etc/edgefl is a folder. owners: of each file, as they would be set."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.site_file, self.owners = root / "etc", root / "site.yaml", dict[str, str]()
        self.site_file.write_text("name: clinic\ndevices:\n  - name: edge-01\n  - name: edge-02\n  - name: edge-03\n")
        self.state = root / "state"
        self.authority = Authority.open(self.state, site=load(self.site_file))
        self.sole: dict[str, Any] = {}
        self.keys = [{**DEFAULTS, **KEYS[0], "directory": self.at("identity")}]
        self.keys.append({**DEFAULTS, **KEYS[1], "directory": self.at("signing")})
        for place in (action, module, facts_module):
            monkeypatch.setattr(place, "IDENTITY", self.at("identity"))
        monkeypatch.setattr(facts_module, "SIGNER", self.at("signing/signer"))
        monkeypatch.setattr(paths, "own", self.own)

    def at(self, path: str) -> str:
        return str(self.root / path)

    def own(self, path: str, owner: str, group: str, mode: str) -> None:
        assert owner == group
        self.owners[path.removesuffix(".edgefl-new").removesuffix(".next")] = owner
        Path(path).chmod(int(mode, 8))

    def converge(self, *, rotate: bool = False) -> dict[str, Any]:
        """The task, once."""
        plugin = action.ActionModule.__new__(action.ActionModule)
        found, _ = facts_module.described([str(self.root)], [])
        plugin.facts, plugin.is_checking = {"identity": facts_module.identity(), "paths": found}, False
        plugin.ask = self.ask
        wanted = {"name": "edge-01", "address": "10.77.0.11", "keys": self.keys, "site_file": str(self.site_file)}
        wanted |= self.sole
        return plugin.reconcile({**wanted, "state_dir": str(self.state), "rotate": rotate}, self.authority)

    def ask(self, _: str, **asked: Any) -> dict[str, Any]:
        """The module, as Ansible would run it on the host."""
        if asked["step"] == "request":
            return module.request({**NO_SOLE_KEYS, **asked})
        return {"touched": module.install(asked)}


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


def test_the_executor_has_a_signing_key_of_its_own_and_what_it_checks_others_by(device: Device) -> None:
    result = device.converge()
    assert set(result["renewed"]) == {"device", "signer"}
    there = sorted(path.relative_to(device.root).as_posix() for path in device.root.rglob("*") if path.is_file())
    public = [f"{directory}/{name}" for directory in ("identity", "signing") for name in ("ca.crt", "crl.pem")]
    assert there == sorted([*public, "identity/device.crt", "identity/device.key", "signing/signer.crt", "signing/signer.key"])
    for path, owner in (("identity/device.key", "edgefl-node"), ("signing/signer.key", "edgefl-app")):
        assert device.owners[device.at(path)] == owner
        assert (device.root / path).stat().st_mode & 0o777 == 0o600
    assert device.owners[device.at("signing/ca.crt")] == "root"
    assert not device.converge()["changed"]


def test_what_runs_on_a_host_under_a_name_of_its_own_gets_a_certificate_for_that_name(device: Device) -> None:
    scraper = {"name": "scraper", "owner": "prometheus", "subject": "prometheus", "directory": device.at("identity")}
    device.keys = [{**DEFAULTS, **scraper}]
    assert device.converge()["renewed"] == {"scraper": "it has none"}
    leaf = x509.load_pem_x509_certificate((device.root / "identity/scraper.crt").read_bytes())
    said = {attribute.oid._name: attribute.value for attribute in leaf.subject}
    assert (said["commonName"], said["organizationalUnitName"]) == ("prometheus", "scraper")
    assert device.owners[device.at("identity/scraper.key")] == "prometheus"
    assert not device.converge()["changed"]


def test_what_watches_a_device_is_shown_a_certificate_that_serves_alone_and_long(device: Device) -> None:
    device.keys = [{**DEFAULTS, "name": "exporter", "owner": "edgefl-exporter", "directory": device.at("identity")}]
    result = device.converge()
    leaf = x509.load_pem_x509_certificate((device.root / "identity/exporter.crt").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["edge-01", "10.77.0.11"]
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use._name for use in uses] == ["serverAuth"], "it opens no door"
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 30
    known = result["ansible_facts"]["edgefl"]["identity"]["certificates"]
    assert known["exporter"] == (device.root / "identity/exporter.crt").read_text(), "what comes later in the play goes by it"


@pytest.mark.skipif(not shutil.which("wg"), reason="a key of WireGuard needs its tools")
def test_the_key_of_its_end_of_the_tunnel_is_made_once_and_its_public_half_alone_is_told(device: Device) -> None:
    device.sole = {"tunnel_key": "edgefl-tunnel"}
    result = device.converge()
    key, public = Path(device.at("identity/tunnel.key")), Path(device.at("identity/tunnel.pub"))
    made = key.read_text()
    assert (device.owners[str(key)], key.stat().st_mode & 0o777) == ("edgefl-tunnel", 0o600)
    derived = subprocess.run(["wg", "pubkey"], input=made, capture_output=True, text=True, check=True).stdout
    assert public.read_text() == derived
    assert result["ansible_facts"]["edgefl"]["identity"]["tunnel_public_key"] == derived.strip()
    assert made.strip() not in str(result)
    assert not device.converge()["changed"]
    public.unlink()
    assert device.converge()["changed"], "what is lost of it is told again"
    assert key.read_text() == made


def test_a_host_that_is_reached_elsewhere_as_well_has_that_address_in_its_certificate(device: Device) -> None:
    text = device.site_file.read_text() + "isolation: {tunnel: wireguard}\n"
    device.site_file.write_text(text)
    site = load(device.site_file)
    device.authority = Authority.open(device.state, site=site)
    device.converge()
    device.sole = {"further_addresses": [str(tunnelled(site)["edge-01"])]}
    assert device.converge()["renewed"] == {"device": "it carries other names or addresses"}
    assert not device.converge()["changed"]


def test_what_it_signs_is_known_by_what_every_other_device_got(device: Device) -> None:
    device.converge()
    signing, round_ = device.root / "signing", Round("clinic", "1", 1)
    keys: Keys = signed(signing, round_, "edge-01", b"\1" * 32, b"\2" * 32)
    leaf = x509.load_der_x509_certificate(bytes.fromhex(keys.certificate))
    verify(Anchors.load(signing, leaf.not_valid_before_utc), round_, "edge-01", keys)
    with pytest.raises(CertificateRefused, match="not of 'edge-02'"):
        verify(Anchors.load(signing, leaf.not_valid_before_utc), round_, "edge-02", keys)


def test_revocations_and_lost_files_are_put_right_in_both_places(device: Device) -> None:
    device.converge()
    Path(device.at("signing/ca.crt")).unlink()
    assert device.converge()["touched"] == [device.at("signing/ca.crt")]

    asked = {"name": "edge-02", "keys": [{**device.keys[1], "directory": device.at("../edge-02")}], **NO_SOLE_KEYS}
    request = module.request(asked)["requests"]["signer"]
    other = device.authority.sign_csr(request.encode(), name="edge-02", role="signer")
    device.authority.revoke(other.serial, "stolen")
    assert device.converge()["touched"] == [device.at("identity/crl.pem"), device.at("signing/crl.pem")]
    assert not device.converge()["changed"]


def test_a_rotation_gives_every_key_a_successor_and_the_old_one_serves_until_then(device: Device) -> None:
    device.converge()
    stems = [device.root / stem for stem in ("identity/device", "signing/signer")]
    before = {stem: (stem.with_suffix(".key").read_bytes(), stem.with_suffix(".crt").read_bytes()) for stem in stems}
    told = device.ask

    def asked(kind: str, **said: Any) -> dict[str, Any]:
        if said["step"] == "install":
            for stem, (key, chain) in before.items():
                assert (stem.with_suffix(".key").read_bytes(), stem.with_suffix(".crt").read_bytes()) == (key, chain)
        return told(kind, **said)

    device.ask = asked  # type: ignore[method-assign]
    result = device.converge(rotate=True)
    assert result["renewed"] == {"device": "it was asked for", "signer": "it was asked for"}
    for stem, (key, chain) in before.items():
        assert stem.with_suffix(".key").read_bytes() != key
        assert stem.with_suffix(".crt").read_bytes() != chain
        assert device.owners[str(stem.with_suffix(".key"))] == ("edgefl-app" if "signing" in str(stem) else "edgefl-node")
    assert not list(device.root.rglob("*.next"))
    assert not device.converge()["changed"], "the new keys fit their certificates"


def test_a_key_that_nobody_needed_any_more_has_a_successor_when_somebody_does(device: Device) -> None:
    scraper = {"name": "scraper", "owner": "prometheus", "subject": "prometheus", "directory": device.at("identity")}
    device.keys.append({**DEFAULTS, **scraper})
    device.converge()
    key = (device.root / "identity/scraper.key").read_bytes()
    [own] = [entry for entry in device.authority.certificates() if entry.role == "scraper"]
    device.authority.revoke(own.serial, "the site asks for it no more")
    assert device.converge()["renewed"] == {"scraper": "it was revoked: the site asks for it no more"}
    assert (device.root / "identity/scraper.key").read_bytes() != key
    assert not device.converge()["changed"]


def test_what_is_not_asked_for_any_more_keeps_no_host_out(device: Device) -> None:
    scraper = {"name": "scraper", "owner": "prometheus", "subject": "prometheus", "directory": device.at("identity")}
    device.keys.append({**DEFAULTS, **scraper})
    device.converge()
    [own] = [entry for entry in device.authority.certificates() if entry.role == "scraper"]
    device.authority.revoke(own.serial, "stolen")
    with pytest.raises(action.AnsibleActionFail, match="the certificate of prometheus was revoked"):
        device.converge()
    device.keys.pop()
    assert device.converge()["renewed"] == {}


def test_a_revoked_device_gets_nothing_by_a_rotation(device: Device) -> None:
    device.converge()
    own = next(entry for entry in device.authority.certificates() if entry.role == "device")
    device.authority.revoke(own.serial, "stolen")
    with pytest.raises(action.AnsibleActionFail, match="was revoked"):
        device.converge(rotate=True)
