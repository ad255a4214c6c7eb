"""site.yaml in, a site or every mistake with its line out."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from edgefl.errors import ExitCode
from edgefl.site import SiteInvalid, load, made, site_hash
from edgefl.site.model import Device

GOOD = """\
name: clinic
devices:
  - name: edge-01
  - name: edge-02
  - name: edge-03
"""


def written(directory: Path, text: str) -> Path:
    (directory / "site.yaml").write_text(dedent(text))
    return directory


def refused(directory: Path, text: str) -> list[tuple[int, str, str]]:
    """Line, what and hint of every finding."""
    with pytest.raises(SiteInvalid) as caught:
        load(written(directory, text))
    assert caught.value.exit_code is ExitCode.SITE_INVALID == 10
    return [(finding.where.line, finding.what, finding.hint) for finding in caught.value.findings]


def test_a_minimal_site_loads_from_its_directory_or_its_file(tmp_path: Path) -> None:
    site = load(written(tmp_path, GOOD))
    assert site == load(tmp_path / "site.yaml")
    assert site.root == tmp_path
    assert site.state == tmp_path / ".edgefl"
    assert [host.name for host in site.hosts] == ["coordinator", "edge-01", "edge-02", "edge-03"]


def test_an_empty_section_means_its_defaults(tmp_path: Path) -> None:
    site = load(written(tmp_path, GOOD + "privacy:\nrun:\n  rounds:\n"))
    assert site.privacy.epsilon_limit == 8.0
    assert site.run.rounds == 10


def test_none_is_a_word_where_leaving_out_means_a_default(tmp_path: Path) -> None:
    def said(value: str) -> int | None:
        policy = f"aggregation:\n  policy:\n    quarantine_after: {value}\n"
        return load(written(tmp_path, GOOD + policy)).aggregation.policy.quarantine_after

    assert (said("none"), said(""), said("3")) == (None, 7, 3)
    with pytest.raises(SiteInvalid, match="has a mistake"):
        said("never")


def test_yaml_1_2_reads_no_and_on_as_text(tmp_path: Path) -> None:
    assert load(written(tmp_path, GOOD.replace("clinic", "no"))).name == "no"


def test_every_mistake_is_named_at_once_with_its_line_and_the_nearest_right_thing(tmp_path: Path) -> None:
    found = refused(
        tmp_path,
        """\
        name: Clinic
        devices:
          - name: edge-01
            adress: 10.77.0.11
          - name: edge-01
          - name: edge-03
            limits: {cpu: many, memory_mb: 8}
          - edge-04
        infrastructure:
          module: labb
        run:
          rounds: 2.5
          quorums: 0.5
        privacy:
          epsilon_limit: -1
        task:
          parameters:
            layers: [1, 2]
        """,
    )
    texts = {line: what for line, what, _ in found}
    hints = {what: hint for _, what, hint in found}
    assert texts[1].startswith("name must be a lower-case name")
    assert "unknown key 'adress'" in texts[4]
    assert hints[texts[4]] == "did you mean address?"
    assert texts[5] == "edge-01 is another device's name already"
    assert [what for line, what, _ in found if line == 7] == [
        "devices[2].limits.cpu must be a number, not 'many'",
        "devices[2].limits.memory_mb must be at least 256, not 8",
    ]
    assert texts[8].startswith("devices[3] must be a section")
    assert texts[10] == "infrastructure.module must be lab, static or own, not 'labb'"
    assert hints[texts[10]] == "did you mean lab?"
    assert texts[12] == "run.rounds must be a whole number, not 2.5"
    assert hints[texts[13]] == "did you mean quorum?"
    assert texts[15] == "privacy.epsilon_limit must be more than 0, not -1"
    assert texts[18] == "task.parameters.layers must be true or false, or a whole number, or a number, or text, not a list of 2"
    assert len(found) == 11


def test_an_error_reads_as_file_line_what_and_next(tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid) as caught:
        load(written(tmp_path, GOOD + "rum: {rounds: 3}\n"))
    assert caught.value.lines() == [
        f"✖ {tmp_path}/site.yaml has a mistake; nothing was touched",
        f"  {tmp_path}/site.yaml:6   rum: {{rounds: 3}}",
        "      unknown key 'rum' in the file",
        "      → did you mean run?",
        f"  next: correct it, then: edgefl check --site {tmp_path}",
    ]
    assert caught.value.as_dict()["findings"] == [
        {
            "file": f"{tmp_path}/site.yaml",
            "line": 6,
            "text": "rum: {rounds: 3}",
            "what": "unknown key 'rum' in the file",
            "next": "did you mean run?",
        }
    ]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "the file is empty"),
        ("- a\n- b\n", 1, "the file must be a section"),
        ("name: a\n  devices: [\n", 2, "not YAML"),
        ('name: "a\n\n\n', 1, "not YAML: while scanning a quoted scalar"),
        ("name: a\nname: b\n", 2, "not YAML: while constructing a mapping found duplicate key"),
        ("name: a\n---\nname: b\n", 2, "not YAML"),
        ("name: clinic\n", 1, "it names no devices"),
        ("name: clinic\ndevices: []\n", 2, "it names no devices"),
        ("devices:\n  - name: a\n", 1, "name is missing"),
        ("name: clinic\ndevices:\n  - name: edge-01\n  - address: 10.77.0.12\n", 4, "devices[1].name is missing"),
        (
            "name: clinic\ndevices:\n  - name: edge-01\n    address: here\n",
            4,
            "an IP address, e.g. 10.77.0.12, not 'here'",
        ),
        ("name: clinic\ndevices: [{name: a}]\nruntime: {python: 3.11}\n", 3, "runtime.python must be text, not 3.11"),
        ("name: clinic\ndevices:\n  - name: coordinator\n", 3, "coordinator is the coordinator's name already"),
    ],
)
def test_files_that_are_wrong_as_a_whole(tmp_path: Path, text: str, line: int, what: str) -> None:
    found = refused(tmp_path, text)
    assert (found[0][0], what in found[0][1]) == (line, True), found


def test_a_directory_without_a_site_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid) as caught:
        load(tmp_path)
    assert caught.value.findings[0].hint == f"edgefl init {tmp_path}"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(SiteInvalid, match="mistake"):
        load(tmp_path)


def test_lines_of_merged_keys_fall_back_to_where_the_merge_stands(tmp_path: Path) -> None:
    found = refused(
        tmp_path,
        """\
        name: clinic
        devices:
          - &first {name: edge-01, epsilon_limit: -1}
          - <<: *first
            name: edge-02
        """,
    )
    assert [line for line, _, _ in found] == [3, 4]


def test_relative_files_resolve_against_the_sites_directory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    site = load(written(tmp_path, "name: a\ndevices:\n  - {name: edge-01, data: data, ssh_key: keys/id}\n"))
    assert site.devices[0].data == tmp_path / "data"
    assert site.devices[0].ssh_key == tmp_path / "keys/id"


def test_files_that_are_not_there_are_named_when_asked_for(tmp_path: Path) -> None:
    text = "name: a\ntask: {module: ./task.py}\ndevices:\n  - {name: edge-01, data: data, ssh_key: keys/id}\n"
    load(written(tmp_path, text))
    with pytest.raises(SiteInvalid) as caught:
        load(tmp_path, with_files=True)
    assert [finding.where.line for finding in caught.value.findings] == [2, 4, 4]


def test_the_hash_follows_the_meaning_and_not_the_place_or_the_layout(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    text = "name: a\ndevices:\n  - {name: edge-01, data: data}\n"
    first = site_hash(load(written(here, text)))
    second = site_hash(load(written(there, "# the same\ndevices: [{data: data, name: edge-01}]\nname: a\nrun:\n")))
    assert first == second
    assert site_hash(load(written(there, text + "run: {rounds: 3}\n"))) != first
    assert site_hash(load(written(there, text + "observability: {prometheus: true}\n"))) == first, "no run goes otherwise for it"


def test_a_module_of_ones_own_that_is_not_there_is_said_before_anything_is_touched(tmp_path: Path) -> None:
    text = "name: a\ninfrastructure: {module: own, source: ./machines}\ndevices: [{name: edge-01}]\n"
    text += "isolation: {operator_addresses: [192.0.2.1]}\n"
    load(written(tmp_path, text))
    with pytest.raises(SiteInvalid, match="has a mistake") as wrong:
        load(written(tmp_path, text), with_files=True)
    assert "no Terraform module in" in wrong.value.findings[0].what
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "main.tf").touch()
    assert load(written(tmp_path, text), with_files=True).infrastructure.source == tmp_path / "machines"


def test_a_module_may_say_which_devices_there_are_and_what_depends_on_their_number_is_checked_once_it_did(tmp_path: Path) -> None:
    text = "name: a\ninfrastructure: {module: own, source: ./machines}\nisolation: {operator_addresses: [192.0.2.1]}\n"
    text += "aggregation: {rule: krum, byzantine: 0.3}\nrun: {quorum: 1.0}\n"
    site = load(written(tmp_path, text))
    assert (site.devices, site.asks_module) == ([], True)
    made.keep(site, [Device(name=f"ward-{n}", epsilon_limit=5.0) for n in range(4)])
    with pytest.raises(SiteInvalid) as wrong:
        load(tmp_path)
    assert "site.yaml:4" in str(wrong.value.findings[0].where), "four devices outvote nobody"
    made.keep(site, [Device(name=f"ward-{n}", epsilon_limit=5.0) for n in range(20)])
    site = load(tmp_path)
    assert (len(site.devices), site.device("ward-7").epsilon_limit, site.asks_module) == (20, 5.0, True)
    named = load(written(tmp_path, text + "devices: [" + ", ".join(f"{{name: d{n}}}" for n in range(20)) + "]\n"))
    assert (named.devices[0].name, named.asks_module) == ("d0", False), "what site.yaml names counts"


def test_the_nearest_of_many_names_is_offered(tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid) as wrong:
        load(written(tmp_path, GOOD + "aggregation: {rule: gaurd}\ncompression: {mode: topk}\n"))
    assert [finding.hint for finding in wrong.value.findings] == ["did you mean guard?", "did you mean top-k?"]
