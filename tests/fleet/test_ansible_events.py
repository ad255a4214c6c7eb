"""An Ansible run, told as progress."""

from __future__ import annotations

from typing import Any

from edgefl.fleet.ansible_events import Account, likely_fix
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned


def event(kind: str, **data: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"task": "The device is laid out", "host": "edge-01", "role": "device", **data}}


def told(account: Account, *events: dict[str, Any]) -> list[Progress]:
    return [progress for one in events for progress in account.tell(one)]


def test_a_task_becomes_a_step_with_its_change_and_time() -> None:
    (step,) = told(Account(), event("runner_on_ok", res={"changed": True, "diff": {"before": "a", "after": "b"}}, duration=1.5))

    assert step == Step("configuration", "edge-01", "The device is laid out", changed=True, seconds=1.5, detail=step.detail)
    assert step.detail["diff"] == [{"before": "a", "after": "b"}]


def test_a_play_is_told_with_its_first_task_and_not_where_it_has_no_host() -> None:
    plays = [event("playbook_on_play_start", name=name) for name in ("Every host is fit", "The tunnel stands", "Services start")]
    task = event("playbook_on_task_start")
    said = told(Account(), plays[0], task, task, plays[1], event("playbook_on_no_hosts_matched"), plays[2], task)

    assert said == [Started("configuration", "", "Every host is fit"), Started("configuration", "", "Services start")]


def test_a_step_says_what_it_started_anew() -> None:
    (step,) = told(Account(check=True), event("runner_on_ok", res={"changed": True, "restarted": ["edgefl-superlink"]}))

    assert step.detail["restarted"] == ["edgefl-superlink"]


def test_checks_of_the_roles_own_arguments_are_not_told() -> None:
    assert not told(Account(), event("runner_on_ok", task_action="ansible.builtin.validate_argument_spec", res={}))


def test_a_failed_task_says_what_the_module_said_and_what_helps() -> None:
    account = Account()
    why = "Task failed: the bundle is corrupt: wheels/a.whl arrived with another SHA-256 than the bundle's manifest names"
    (failed,) = told(account, event("runner_on_failed", res={"msg": why}, task_action="edgefl.host.runtime"))

    assert isinstance(failed, Failed)
    assert failed.why.startswith("the bundle is corrupt")
    assert failed.hint == "rm -r .edgefl/bundle, then edgefl up"
    assert [failure.reason for failure in account.stopping] == ["bundle"]


def test_a_failed_command_shows_its_own_last_words() -> None:
    (failed,) = told(
        Account(), event("runner_on_failed", res={"cmd": ["x"], "msg": "non-zero return code", "stderr": "✖ no such key\n"})
    )

    assert isinstance(failed, Failed)
    assert failed.why == "✖ no such key"


def test_an_unreachable_host_is_told_apart_from_a_failed_one() -> None:
    account = Account()
    told(account, event("runner_on_unreachable", res={"msg": "no route"}))

    assert [failure.reason for failure in account.failures] == ["unreachable"]


def test_a_device_that_the_site_goes_on_without_is_a_warning_and_stops_nothing() -> None:
    account = Account()
    why = "its clock is +40 s off the operator's"
    (warned,) = told(account, event("runner_on_failed", role="preflight", task_action="ansible.builtin.fail", res={"msg": why}))

    assert isinstance(warned, Warned)
    assert "synchronise" in warned.hint
    assert account.stopping == []


def test_the_end_says_for_each_host_whether_anything_changed() -> None:
    account = Account(check=True)
    stats = {"processed": {"edge-01": 1, "edge-02": 1}, "changed": {"edge-02": 3}}
    finished = told(account, {"event": "playbook_on_stats", "event_data": stats})

    assert finished == [
        Finished("configuration", "edge-01", "as the site says", changed=False),
        Finished("configuration", "edge-02", "3 things would change", changed=True),
    ]


def test_an_unknown_failure_sends_the_operator_to_the_doctor() -> None:
    assert likely_fix("something new", "edge-07") == "edgefl doctor edge-07"


def test_a_failure_carries_the_modules_result_but_not_the_arguments_that_it_was_given() -> None:
    result = {
        "msg": "non-zero return code",
        "rc": 3,
        "cmd": ["sh", "-c", "false"],
        "stderr": "x" * 9000 + "the end",
        "stdout": "",
        "exception": "(traceback unavailable)",
        "invocation": {"module_args": {"content": "hunter2"}},
    }
    (failed,) = told(Account(), event("runner_on_failed", res=result, task_action="ansible.builtin.command"))

    assert failed.detail["action"] == "ansible.builtin.command"
    said = failed.detail["result"]
    assert list(said) == ["msg", "rc", "cmd", "stderr"]
    assert said["stderr"].endswith("the end")
    assert len(said["stderr"]) == 4000
    assert "hunter2" not in str(failed)


def test_of_a_loop_only_what_failed_is_carried() -> None:
    results = [{"item": "a", "failed": False, "msg": "fine"}, {"item": "b", "failed": True, "msg": "broken"}]
    (failed,) = told(Account(), event("runner_on_failed", res={"msg": "One or more items failed", "results": results}))

    assert failed.detail["result"]["results"] == [{"item": "b", "msg": "broken"}]
