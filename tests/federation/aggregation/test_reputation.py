"""Reputations as values, in memory and on the disk."""

import json

import pytest

from edgefl.federation.aggregation.reputation import Reputation, Seen, Standing


def test_reputations_survive_a_restart() -> None:
    reputation = Reputation().after({"edge-01": Seen(0.1, flagged=False), "edge-02": Seen(2.0, flagged=True)})
    assert Reputation.from_dict(json.loads(json.dumps(reputation.as_dict()))) == reputation
    assert reputation.of("edge-03") == Standing()


def test_flags_halve_trust_and_are_counted_in_a_row() -> None:
    reputation = Reputation()
    for flag in (True, True, False, True):
        reputation = reputation.after({"edge-01": Seen(1.5 if flag else 0.0, flag)})
    standing = reputation.of("edge-01")
    assert (standing.flags, standing.streak, standing.rounds) == (3, 1, 4)
    assert standing.trust == pytest.approx((0.25 + 0.05) / 2)


def test_one_round_cannot_say_all() -> None:
    standing = Standing(evidence=0.1, rounds=3).after(1e9, flagged=True)
    assert standing.evidence < 1


def test_each_round_is_remembered_by_the_gravest_thing_that_it_said() -> None:
    standing = Standing()
    for seen in (Seen(0.2, False), Seen(0.5, True), Seen(1.5, True), Seen(1.5, True, True), Seen(9.0, False, True)):
        standing = standing.after(*seen)
    assert standing.malformed().recent == "012303"


def test_a_round_speaks_of_a_devices_direction_by_the_square_of_what_was_in_common() -> None:
    standing = Standing().directed(0.9, 0.9).directed(0.1, -0.3)
    assert standing.following == pytest.approx((0.05 + 0.93 * 0.81 - 0.03) / (0.05 + 0.93 * 0.81 + 0.01))
    assert Standing().directed(0.9, -0.9).following < -0.8


def test_what_was_said_of_a_direction_fades() -> None:
    standing = Standing().directed(0.9, -0.9)
    before = standing.following
    for _ in range(100):
        standing = standing.directed(0.0, 0.5)
    assert before < -0.8
    assert standing.following > 0.9


def test_who_takes_no_part_keeps_his_standing() -> None:
    reputation = Reputation().after({"edge-01": Seen(1.0, flagged=True)})
    assert reputation.after({"edge-02": Seen(0.0, flagged=False)}).of("edge-01") == reputation.of("edge-01")


def test_attackers_are_known_who_sent_no_update_or_would_have_been_heard_but_for_their_quarantine() -> None:
    members = [f"edge-{number:02}" for number in range(1, 11)]
    some = Reputation({device: Standing(conduct="quarantined") for device in ("edge-01", "edge-02", "stranger")})
    assert Reputation().known(members, 9, 1) == 1
    assert some.known(members, 8, 0) == 2, "all that may be asked were heard"
    assert some.known(members, 7, 1) == 3
    assert some.known(members, 4, 0) == 1, "half of them were asked"
    assert some.known(members, 3, 0) == 0, "where it is not a whole one, none: there may be one more among the three"


@pytest.mark.parametrize("said", [{"edge-01": {"karma": 1}}, {"edge-01": 3}])
def test_what_is_no_standing_is_an_error(said: dict) -> None:
    with pytest.raises(ValueError, match="no standings"):
        Reputation.from_dict(said)
