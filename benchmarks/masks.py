"""What masked sums cost, by whole rounds of real devices' parts and messages: bytes against plain float32 updates, and seconds.

`mask_wire_ratio` is a masked update's message over a plain one's (1 is no more); `mask_round_ratio` counts every message that a
device sends in the round. `mask_8bit_times` and `mask_server_times` say how many times smaller 8-bit words, and a tenth of those,
are. Milliseconds are of one device's masking, and of taking the masks off where one device of ten dropped out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.loopback import certify
from edgefl.federation.messages import Keys, KeysRequest, Trained, TrainRequest, pack, size
from edgefl.federation.secure import device
from edgefl.federation.secure.selection import Selection
from edgefl.federation.secure.sums import Sum, checked
from edgefl.federation.secure.vault import Vault
from edgefl.pki.authority import Authority
from edgefl.site.model import Secure, Site

DEVICES, VALUES = 10, 1_000_000


@dataclass(frozen=True)
class Measured:
    """update_bytes: of one masked update. sent_bytes: of all that one device sends. share_s: checking its peers' keys and
    sharing its secrets with them. error: the largest of the mean.
    """

    update_bytes: int
    sent_bytes: int
    share_s: float
    mask_s: float
    unmask_s: float
    error: float


def measured(devices: int, values: int, selection: Selection, **terms: object) -> Measured:
    """One round in which the last device drops out after sharing; its masks are taken off."""
    names = [f"edge-{n:02}" for n in range(devices)]
    generator = np.random.default_rng(1)
    deltas = {name: generator.normal(0, 1e-3, values).astype(np.float32) for name in names}
    host = {
        "site": "s", "role": "device", "coordinator": {"name": "c", "address": "192.0.2.1"}, "devices": names,
        "secure": {"mode": "masked", **terms},
    }  # fmt: skip
    hosts = {name: HostConfig.model_validate({**host, "name": name}) for name in names}
    secure = hosts[names[0]].secure
    with tempfile.TemporaryDirectory() as root:
        signing = signing_keys(Path(root) / "signing", names)
        vaults = {name: Vault(Path(root) / name) for name in names}
        keys: dict[str, Keys] = {}
        for name in names:
            said = device.advertise(KeysRequest(run="1", round=1), hosts[name], vaults[name], signing[name])
            keys[name] = checked(said, keys)
        made = Sum("1", 1, tuple(names), keys, secure.needed(devices), selection, values)
        request, beside = made.shares_request()
        sent, shared = size(pack(keys[names[0]])), list[float]()
        for name in names:
            began = time.perf_counter()
            told, shares = device.share(request, beside, hosts[name], vaults[name], signing[name])
            shared.append(time.perf_counter() - began)
            made.shared(name, told, shares)
        sent += size(pack(told, shares))
        train = TrainRequest(run="1", round=1, rounds=1, seed=1, sums=[made.among])
        took = []
        for name in names[:-1]:
            began = time.perf_counter()
            words = device.mask(deltas[name], train, hosts[name], vaults[name], Feedback(Path(root) / f"{name}.feedback"))
            took.append(time.perf_counter() - began)
            made.take(name, "masked", words)
        update = size(pack(Trained(encoding="masked", samples=100, metrics={"loss": 0.5}), words))
        for name in names[:-1]:
            unmasked, revealed = device.reveal(*made.unmask_request(name), hosts[name], vaults[name])
            made.reveal(name, revealed)
        sent += update + size(pack(unmasked, revealed))
        began = time.perf_counter()
        mean = selection.decode(made.unmasked(), values, secure, devices) / (devices - 1)
        unmask_s = time.perf_counter() - began
    places = selection.chosen(values)
    expected = np.mean([deltas[name] for name in names[:-1]], axis=0)
    off = np.abs(mean - expected) if places is None else np.abs(mean - expected)[places]
    return Measured(update, sent, min(shared), min(took), unmask_s, float(off.max()))


def signing_keys(root: Path, names: list[str]) -> dict[str, Path]:
    """Each device's signing key, with its certificate and what it checks others by."""
    authority = Authority.open(root, site=Site.model_validate({"name": "s", "devices": [{"name": name} for name in names]}))
    directories = {name: root / name for name in names}
    for name, directory in directories.items():
        directory.mkdir()
        certify(directory, "signer", "signer", name, authority)
        (directory / "ca.crt").write_bytes(authority.bundle())
        (directory / "crl.pem").write_bytes(authority.crl())
    return directories


def figures(devices: int = DEVICES, values: int = VALUES) -> dict[str, float]:
    """The figures by name."""
    plain = size(pack(Trained(samples=100, metrics={"loss": 0.5}), {"w": np.zeros(values, np.float32)}))
    last = np.random.default_rng(2).normal(0, 1e-3 / devices**0.5, values).astype(np.float32)
    eight, server = Secure(bits=8), Secure(bits=8, keep=0.1)
    whole = measured(devices, values, Selection())
    small = measured(devices, values, Selection.choose(eight, last, values, devices, np.random.default_rng(3)), bits=8)
    few = Selection.choose(server, last, values, devices, np.random.default_rng(3))
    fewer = measured(devices, values, few, bits=8, keep=0.1)
    return {
        "mask_wire_ratio": round(whole.update_bytes / plain, 4),
        "mask_round_ratio": round(whole.sent_bytes / plain, 4),
        "mask_8bit_times": round(plain / small.update_bytes, 2),
        "mask_server_times": round(plain / fewer.update_bytes, 2),
        "share_ms": round(1000 * whole.share_s, 1),
        "mask_ms": round(1000 * whole.mask_s, 1),
        "unmask_ms": round(1000 * whole.unmask_s, 1),
        "mask_error": whole.error,
        "mask_8bit_error": small.error,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    found = figures()
    if not as_json:
        print(f"{DEVICES} devices, {VALUES:,} values")
    print(json.dumps(found) if as_json else "\n".join(f"{name:20} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
