"""Who is suspect, who is left out, and how both come back."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefl.events.schema import DeviceJudged
from edgefl.federation.aggregation.policy import judge, pardon
from edgefl.federation.aggregation.reputation import Reputation, Seen, Standing
from edgefl.site.model import Policy

DEVICES = [f"edge-{number:02}" for number in range(1, 11)]
POLICY = Policy(window=10, suspect_after=2, clear_after=3, quarantine_after=6, quarantine_rounds=4)
FLAGS = st.tuples(st.sampled_from(DEVICES), st.builds(Seen, st.floats(0.3, 5), st.just(True), st.booleans()))


def left_out(history: Reputation) -> list[str]:
    return [device for device in DEVICES if history.of(device).conduct == "quarantined"]


def lived(
    history: Reputation, rounds: list[dict[str, float]], most: int = 3, *, grave: bool = True
) -> tuple[Reputation, list[DeviceJudged]]:
    """Rounds as they follow each other: each is the evidence (score / limit) of those that were flagged."""
    said: list[DeviceJudged] = []
    for flagged in rounds:
        here = [device for device in DEVICES if device not in set(left_out(history))]
        seen = {device: Seen(flagged.get(device, 0.1), device in flagged, grave and device in flagged) for device in here}
        history, found = judge(history.after(seen), here, DEVICES, POLICY, most)
        said += found
    return history, said


def path_of(said: list[DeviceJudged], device: str) -> list[str]:
    return [one.conduct for one in said if one.device == device]


def test_one_bad_round_brands_nobody() -> None:
    history, said = lived(Reputation(), [{"edge-01": 9.0}, *[{}] * 9])
    assert said == []
    assert history.of("edge-01").conduct == "trusted"


def test_repeated_flags_make_a_suspect_and_good_rounds_clear_it() -> None:
    history, said = lived(Reputation(), [{"edge-01": 2.0}, {}, {"edge-01": 2.0}])
    assert said == [
        DeviceJudged(
            device="edge-01", before="trusted", conduct="suspect", reason="flagged in 2 of its last 3 rounds", flags=2, window=3
        )
    ]
    history, said = lived(history, [{}, {}])
    assert said == []
    history, said = lived(history, [{}])
    assert path_of(said, "edge-01") == ["trusted"]
    _, said = lived(history, [{"edge-01": 2.0}])
    assert path_of(said, "edge-01") == ["suspect"], "what happened lately is not forgotten"


def test_sustained_evidence_leaves_a_device_out_and_it_comes_back_on_probation() -> None:
    history, said = lived(Reputation(), [{"edge-01": 3.0}] * 6)
    assert path_of(said, "edge-01") == ["suspect", "quarantined"]
    assert said[-1].reason == "sent what no honest device sends in 6 of its last 6 rounds: left out of 4 rounds"
    assert said[-1].rounds_out == 4
    assert left_out(history) == ["edge-01"]
    history, said = lived(history, [{}] * 4)
    assert path_of(said, "edge-01") == ["probation"]
    assert left_out(history) == []
    again, said = lived(history, [{"edge-01": 3.0}] * 2)
    assert path_of(said, "edge-01") == ["quarantined"]
    assert said[-1].rounds_out == 8, "twice as long"
    assert again.of("edge-01").terms == 2
    _, said = lived(history, [{}] * 3)
    assert path_of(said, "edge-01") == ["trusted"]


def test_flags_for_what_earlier_rounds_said_leave_nobody_out() -> None:
    history, said = lived(Reputation(), [{"edge-01": 1.2}, *[{"edge-01": 0.5}] * 20], grave=False)
    assert path_of(said, "edge-01") == ["suspect"]
    assert left_out(history) == []


def test_an_odd_direction_makes_a_suspect_for_good_and_costs_no_device_its_place() -> None:
    history, said = lived(Reputation(), [{"edge-01": 3.0}] * 40, grave=False)
    assert path_of(said, "edge-01") == ["suspect"]
    assert left_out(history) == []
    _, said = lived(history, [{}] * 3)
    assert path_of(said, "edge-01") == ["trusted"]


def test_an_odd_direction_on_probation_neither_condemns_nor_clears() -> None:
    history, _ = lived(Reputation(), [{"edge-01": 3.0}] * 6)
    history, said = lived(history, [{}] * 4)
    assert path_of(said, "edge-01") == ["probation"]
    history, said = lived(history, [{"edge-01": 3.0}] * 10, grave=False)
    assert said == []
    _, said = lived(history, [{"edge-01": 3.0}] * 2)
    assert path_of(said, "edge-01") == ["quarantined"]


def test_what_an_older_version_wrote_down_as_a_flag_of_one_rounds_update_leaves_nobody_out() -> None:
    history, said = lived(Reputation({"edge-01": Standing(conduct="suspect", recent="2222222222")}), [{"edge-01": 3.0}])
    assert (left_out(history), said) == ([], [])


def test_no_more_are_left_out_than_may_be_malicious_and_the_worst_go_first() -> None:
    history, _ = lived(Reputation(), [{"edge-01": 1.1, "edge-02": 2.0, "edge-03": 3.0}] * 9, most=2)
    assert set(left_out(history)) == {"edge-02", "edge-03"}
    history, _ = lived(Reputation(), [{"edge-01": 3.0}] * 30, most=0)
    assert left_out(history) == []


def test_the_operator_pardons() -> None:
    history, _ = lived(Reputation(), [{"edge-01": 3.0}] * 6)
    history, said = pardon(history, ["edge-01", "edge-02", "edge-09"], POLICY)
    assert history.of("edge-01") == Standing()
    assert [one.device for one in said if one.before == "quarantined"] == ["edge-01"]
    assert left_out(history) == []


def test_what_is_no_update_counts_as_a_flag_but_not_as_a_direction() -> None:
    history = Reputation()
    for _ in range(6):
        history, said = judge(history.malformed(["edge-05"]), ["edge-05"], DEVICES, POLICY, 3)
    assert path_of(said, "edge-05") == ["quarantined"]
    assert (history.of("edge-05").trust, history.of("edge-05").evidence) == (1.0, 0.0)


def test_a_verdict_survives_a_restart_and_an_older_record_is_read() -> None:
    history, _ = lived(Reputation(), [{"edge-01": 3.0}] * 7)
    assert Reputation.from_dict(json.loads(json.dumps(history.as_dict()))) == history
    old = {"edge-01": {"evidence": 0.5, "trust": 0.5, "rounds": 4, "flags": 1, "streak": 0}}
    assert Reputation.from_dict(old).of("edge-01").conduct == "trusted"


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Policy(quarantine_after=None), Policy()])
@given(st.lists(st.lists(FLAGS, max_size=6), max_size=40), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_whatever_happens_few_are_out_and_only_after_enough_grave_flags(
    policy: Policy, rounds: list[list[tuple[str, Seen]]], most: int
) -> None:
    history = Reputation()
    for flagged in map(dict, rounds):
        here = [device for device in DEVICES if device not in set(left_out(history))]
        seen = history.after({device: flagged.get(device, Seen(0.1, flagged=False)) for device in here})
        history, said = judge(seen, here, DEVICES, policy, most)
        assert len(left_out(history)) <= (0 if policy.quarantine_after is None else most)
        for one in said:
            if one.conduct == "quarantined" and one.before == "suspect":
                recent = seen.of(one.device).recent[-policy.window :]
                assert recent.count("3") >= (policy.quarantine_after or 0)
            if one.conduct == "suspect":
                assert one.flags >= policy.suspect_after
