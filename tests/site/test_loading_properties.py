"""Whatever a file holds, it is a site or a SiteInvalid whose lines exist; never another error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edgefl.site import Finding, SiteInvalid, load
from edgefl.site.model import Device, Site

KEYS = st.sampled_from([*Site.model_fields, *Device.model_fields, "rounds", "module", "network", "cpu", "rule", "quorum", "x"])
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats() | st.text(max_size=8) | st.sampled_from(["edge-01", "lab"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.integers(0, 3), inner, max_size=4),
    max_leaves=12,
)
SITES = st.fixed_dictionaries(
    {"name": st.just("clinic"), "devices": st.lists(st.just({"name": "edge-01"}) | VALUES, max_size=4)},
    optional={key: VALUES for key in Site.model_fields if key not in ("name", "devices")} | {"x": VALUES},
)


def findings_in(content: bytes) -> tuple[Finding, ...]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "site.yaml"
        path.write_bytes(content)
        try:
            load(path, with_files=True)
        except SiteInvalid as invalid:
            return invalid.findings
        return ()


def refused_or_loaded(content: bytes) -> None:
    lines = len(content.decode(errors="replace").splitlines())
    for finding in findings_in(content):
        assert 1 <= finding.where.line <= max(1, lines)
        assert finding.what


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(VALUES | SITES)
def test_any_yaml_is_a_site_or_names_its_mistakes(value: Any) -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        YAML().dump(value, file)
        file.seek(0)
        refused_or_loaded(file.read().encode())


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="&*!|>%@`{}[]:,-#?'\"\t\n ab1~<", max_size=40).map(str.encode))
def test_any_bytes_are_a_site_or_name_their_mistakes(content: bytes) -> None:
    refused_or_loaded(content)
