"""Reputations as values and as files."""

from pathlib import Path

import pytest

from edgefl.errors import EdgeflError
from edgefl.federation.aggregation.reputation import Reputation, Standing


def test_reputations_survive_a_restart(tmp_path: Path) -> None:
    reputation = Reputation().after({"edge-01": (0.1, False), "edge-02": (2.0, True)})
    reputation.save(tmp_path / "reputation.json")
    assert Reputation.load(tmp_path / "reputation.json") == reputation
    assert Reputation.load(tmp_path / "none.json").of("edge-01") == Standing()


def test_flags_halve_trust_and_are_counted_in_a_row() -> None:
    reputation = Reputation()
    for flag in (True, True, False, True):
        reputation = reputation.after({"edge-01": (1.5 if flag else 0.0, flag)})
    standing = reputation.of("edge-01")
    assert (standing.flags, standing.streak, standing.rounds) == (3, 1, 4)
    assert standing.trust == pytest.approx((0.25 + 0.05) / 2)


def test_one_round_cannot_say_all() -> None:
    standing = Standing(evidence=0.1, rounds=3).after(1e9, flagged=True)
    assert standing.evidence < 1


def test_who_takes_no_part_keeps_his_standing() -> None:
    reputation = Reputation().after({"edge-01": (1.0, True)})
    assert reputation.after({"edge-02": (0.0, False)}).of("edge-01") == reputation.of("edge-01")


@pytest.mark.parametrize("content", ["", "[1]", '{"edge-01": {"karma": 1}}', '{"edge-01": 3}'])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "reputation.json").write_text(content)
    with pytest.raises(EdgeflError, match="cannot be read") as raised:
        Reputation.load(tmp_path / "reputation.json")
    assert "clean slate" in raised.value.hint
