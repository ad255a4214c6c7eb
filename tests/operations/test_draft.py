"""What is typed into a site.yaml is never lost, never half written, and never written over somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.operations import draft
from edgefl.operations.draft import SiteMoved
from edgefl.site import load
from edgefl.site.scaffold import SiteExists

SITE = "name: clinic\ndevices: [{name: edge-01}, {name: edge-02}, {name: edge-03}]\n"


def test_a_first_site_loads_and_is_not_written_twice(tmp_path: Path) -> None:
    draft.begin(tmp_path, module="lab", devices=3, name="ward")
    assert (load(tmp_path).name, len(load(tmp_path).devices)) == ("ward", 3)
    with pytest.raises(SiteExists):
        draft.begin(tmp_path, module="lab", devices=3, name="ward")


def test_findings_are_those_of_loading_with_the_lines_of_the_text(tmp_path: Path) -> None:
    text = SITE + "privcy: {}\nrun: {rounds: many}\n"
    found = [(each.where.line, each.where.path) for each in draft.findings(tmp_path, text)]
    assert found == [(3, tmp_path / "site.yaml"), (4, tmp_path / "site.yaml")]
    assert draft.findings(tmp_path, SITE) == ()
    assert [each.where.line for each in draft.findings(tmp_path, "name: [")] == [1]
    assert not list(tmp_path.iterdir()), "looking writes nothing"


def test_files_that_the_text_names_are_looked_for(tmp_path: Path) -> None:
    text = SITE.replace("{name: edge-01}", "{name: edge-01, data: ./data}")
    assert len(draft.findings(tmp_path, text)) == 1
    (tmp_path / "data").mkdir()
    assert draft.findings(tmp_path, text) == ()


def test_a_draft_outlives_whoever_typed_it_until_it_is_saved(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    assert not draft.opened(tmp_path).is_kept
    draft.keep(tmp_path, SITE + "# more", SITE)
    found = draft.opened(tmp_path)
    assert (found.text, found.saved, found.is_kept) == (SITE + "# more", SITE, True)
    assert (tmp_path / "site.yaml").read_text() == SITE
    draft.save(tmp_path, found.text, found.saved)
    assert (tmp_path / "site.yaml").read_text() == SITE + "# more"
    assert not draft.opened(tmp_path).is_kept


def test_typing_back_to_what_is_saved_drops_the_draft(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    draft.keep(tmp_path, "other", SITE)
    draft.keep(tmp_path, SITE, SITE)
    assert not draft.opened(tmp_path).is_kept
    assert [path.name for path in (tmp_path / ".edgefl").iterdir()] == []


def test_what_somebody_else_wrote_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("theirs")
    with pytest.raises(SiteMoved, match="changed by somebody else"):
        draft.save(tmp_path, "mine", SITE)
    assert (tmp_path / "site.yaml").read_text() == "theirs"
    draft.save(tmp_path, "mine", "theirs")
    assert (tmp_path / "site.yaml").read_text() == "mine"


def test_saving_keeps_permissions_and_links_and_leaves_nothing_beside(tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text(SITE)
    real.chmod(0o640)
    (tmp_path / "site.yaml").symlink_to(real)
    draft.save(tmp_path, SITE + "# more", SITE)
    assert real.read_text() == SITE + "# more"
    assert real.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "site.yaml").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real.yaml", "site.yaml"]


def test_a_save_that_fails_leaves_the_file_and_the_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    draft.keep(tmp_path, "mine", SITE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(draft.EdgeflError, match="No space left"):
        draft.save(tmp_path, "mine", SITE)
    assert (tmp_path / "site.yaml").read_text() == SITE
    assert draft.opened(tmp_path).text == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".new")] == []
