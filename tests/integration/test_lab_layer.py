"""A bundle's layer: made once, on hosts that ask for it, and never half."""

from __future__ import annotations

import json
import platform
import zipfile
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from edgefl.lab.failure import LabFailed
from edgefl.lab.hosts import HostSpec, Lab
from edgefl.lab.image import image
from edgefl.lab.preload import preload

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ABOUT = "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def bundle(directory: Path, deps_hash: str, *, metadata: str = ABOUT) -> Path:
    """A bundle whose one wheel holds the module `greeting`."""
    (directory / "wheels").mkdir(parents=True)
    (directory / "debs").mkdir()
    (directory / "manifest.json").write_text(json.dumps({"deps": {platform.machine(): {"hash": deps_hash}}}))
    with zipfile.ZipFile(directory / "wheels/greeting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "text = 'hello'\n")
        wheel.writestr("greeting-1.0.dist-info/METADATA", metadata)
        wheel.writestr("greeting-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("greeting-1.0.dist-info/RECORD", "")
    return directory


def test_a_preloaded_host_starts_with_the_bundle_and_another_one_without(tmp_path: Path) -> None:
    layer = preload(image(), bundle(tmp_path / "bundle", "feed"), cache=tmp_path / "cache")
    assert preload(image(), tmp_path / "bundle", cache=tmp_path / "cache") == layer
    lab = Lab(tmp_path / "lab", IPv4Interface("10.79.1.1/24"))
    lab.use_layer(layer)
    try:
        lab.create(HostSpec("full", "10.79.1.11", memory_mb=256))
        lab.create(HostSpec("bare", "10.79.1.12", memory_mb=256, preloaded=False))
        python = "/opt/edgefl/venvs/feed/bin/python"
        assert lab.execute(
            "full", [python, "-c", "import greeting; print(greeting.text, greeting.__cached__)"]
        ).stdout.startswith("hello")
        assert lab.execute("full", ["cat", "/opt/edgefl/venvs/feed/.complete"]).stdout == "feed"
        compiled = "/opt/edgefl/venvs/feed/lib/python3.11/site-packages/__pycache__/greeting.cpython-311.pyc"
        assert lab.execute("full", ["test", "-e", compiled]).returncode == 0
        assert lab.execute("full", ["ls", "/mnt"]).stdout == ""
        assert lab.execute("bare", ["test", "-e", "/opt/edgefl"]).returncode == 1
    finally:
        lab.down()


def test_a_bundle_that_does_not_install_leaves_no_layer(tmp_path: Path) -> None:
    broken = bundle(tmp_path / "bundle", "bad", metadata="")
    (broken / "wheels/greeting-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(LabFailed, match=r"greeting|wheel"):
        preload(image(), broken, cache=tmp_path / "cache")
    assert not list(tmp_path.glob("cache/layers/*"))
