import json
import platform
from pathlib import Path

import pytest

from edgefl.lab.failure import LabFailed
from edgefl.lab.preload import preload


def manifest(deps_hash: str) -> str:
    return json.dumps({"deps": {platform.machine(): {"hash": deps_hash, "wheels": []}}})


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(LabFailed, match="is no bundle"):
        preload(tmp_path / "image", tmp_path, cache=tmp_path)


def test_a_hash_that_is_no_hash_never_becomes_a_path(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest("../../etc"))
    with pytest.raises(LabFailed, match="not a hash"):
        preload(tmp_path / "image", tmp_path, cache=tmp_path)


def test_a_bundle_without_wheels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest("abc"))
    with pytest.raises(LabFailed, match="has no wheels"):
        preload(tmp_path / "image", tmp_path, cache=tmp_path)
