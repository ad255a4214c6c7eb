"""A scaffolded site works as it is, and so does every default that it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from edgefl.site import Site, SiteInvalid, load, scaffold, schema
from edgefl.site.isolation import Allowance
from edgefl.site.scaffold import Module, SiteExists

DOCS = Path(__file__).parents[2] / "docs"


def test_a_site_of_ones_own_module_loads_and_waits_for_the_module(tmp_path: Path) -> None:
    scaffold.write(tmp_path, module="own", devices=2)
    site = load(tmp_path)
    assert (site.infrastructure.module, site.infrastructure.source) == ("own", tmp_path / "terraform")
    with pytest.raises(SiteInvalid, match="a mistake"):
        load(tmp_path, with_files=True)
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "main.tf").touch()
    load(tmp_path, with_files=True)


@pytest.mark.parametrize("module", ["lab", "static"])
def test_a_new_site_loads_as_it_is(tmp_path: Path, module: Module) -> None:
    scaffold.write(tmp_path / "My Clinic 7", module=module, devices=5)
    site = load(tmp_path / "My Clinic 7", with_files=True)
    assert site.name == "my-clinic"
    assert site.infrastructure.module == module
    assert len(site.devices) == 5


@pytest.mark.parametrize("module", ["lab", "static", "own"])
def test_every_commented_default_is_the_default(tmp_path: Path, module: Module) -> None:
    text = scaffold.text("clinic", module=module)
    uncommented = re.sub(r"^(\s*)#(?=[a-z_]+:)", r"\1", text, flags=re.MULTILINE)
    assert uncommented != text
    (tmp_path / "site.yaml").write_text(text)
    as_written = load(tmp_path)
    (tmp_path / "site.yaml").write_text(uncommented)
    assert load(tmp_path) == as_written


def test_every_field_stands_in_the_scaffold_with_its_docstring() -> None:
    text = " ".join(scaffold.text("clinic").replace("#", " ").split())
    for field in Site.model_fields.values():
        assert field.description
        assert " ".join(field.description.split()) in text


def test_what_the_items_of_a_list_may_say_is_explained_where_the_list_first_stands() -> None:
    text = scaffold.text("clinic")
    for key, field in Allowance.model_fields.items():
        assert text.count(f"  #   {key}: {field.description}\n") == 1


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("mine")
    with pytest.raises(SiteExists):
        scaffold.write(tmp_path)
    assert (tmp_path / "site.yaml").read_text() == "mine"


def test_an_existing_gitignore_keeps_its_lines_and_gains_one(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    scaffold.write(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n.edgefl/\n"


def test_the_published_schema_is_current() -> None:
    published = (DOCS / "site.schema.json").read_text()
    assert published == schema.text(), "python -m edgefl.site.schema > docs/site.schema.json"


def test_the_schema_accepts_a_new_site_and_refuses_an_unknown_key() -> None:
    validator = Draft202012Validator(json.loads(schema.text()))
    site = YAML(typ="safe").load(scaffold.text("clinic"))
    assert list(validator.iter_errors(site)) == []
    assert [error.validator for error in validator.iter_errors({**site, "devicez": []})] == ["additionalProperties"]
