"""The list of contents, against CycloneDX's own published schema."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from edgefl.fleet import sbom
from edgefl.fleet.fab import Fab

if TYPE_CHECKING:
    from conftest import Index

APP = Fab(b"app", "f" * 64)
DEB = "debs/haproxy_2.6.12-1%2bdeb12u3_amd64.deb"


def schema(name: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((files("cyclonedx.schema._res") / name).read_text())
    return said


@pytest.fixture
def bundle(index: Index, tmp_path: Path) -> Path:
    (tmp_path / "b/wheels").mkdir(parents=True)
    needs = ("Numpy_Core>=1", "absent", 'torch; extra == "all"')
    for wheel in (index.wheel("flwr", "1.41.0", requires=needs), index.wheel("numpy.core", "2.0+cpu"), index.wheel("torch", "2")):
        wheel.rename(tmp_path / "b/wheels" / wheel.name)
    return tmp_path / "b"


def described(bundle: Path) -> dict[str, Any]:
    hashes = {f"wheels/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle / "wheels").iterdir()}
    hashes |= {"app/edgefl.tar.gz": "a" * 64, "app.fab": APP.sha256, DEB: "d" * 64}
    content = sbom.document(bundle, hashes, APP)
    assert sbom.document(bundle, dict(reversed(hashes.items())), APP) == content, "the same contents give the same bytes"
    said: dict[str, Any] = json.loads(content)
    return said


def test_it_is_valid_cyclonedx(bundle: Path) -> None:
    others = [schema(f"{name}.SNAPSHOT.schema.json") for name in ("spdx", "jsf-0.82")]
    registry: Registry[Any] = Registry().with_resources((other["$id"], Resource.from_contents(other)) for other in others)
    validator = Draft7Validator(schema("bom-1.6.SNAPSHOT.schema.json"), registry=registry)
    said = described(bundle)
    assert [error.message for error in validator.iter_errors(said)] == []
    said["components"][0]["hashes"][0]["alg"] = "ROT-13"
    assert list(validator.iter_errors(said)), "the schema is one that refuses something"


def test_every_file_is_a_component_with_its_version_and_hash(bundle: Path) -> None:
    parts = {part["bom-ref"]: part for part in described(bundle)["components"]}
    assert parts["wheels/numpy.core-2.0+cpu-py3-none-any.whl"]["purl"].startswith("pkg:pypi/numpy-core@2.0%2Bcpu?")
    assert parts[DEB]["purl"] == "pkg:deb/debian/haproxy@2.6.12-1%2Bdeb12u3?arch=amd64"
    assert parts[DEB]["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    assert {"app/edgefl.tar.gz", "app.fab"} <= set(parts)


def test_what_needs_what_leaves_out_extras_and_what_is_not_there(bundle: Path) -> None:
    needs = {entry["ref"]: entry["dependsOn"] for entry in described(bundle)["dependencies"]}
    assert needs["wheels/flwr-1.41.0-py3-none-any.whl"] == ["wheels/numpy.core-2.0+cpu-py3-none-any.whl"]
    assert len(needs["bundle"]) == 6
