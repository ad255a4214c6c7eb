"""Train: start a run, or follow the one that is going, to its end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from edgefl.errors import EdgeflError, ExitCode
from edgefl.events.schema import (
    DeviceDropped,
    DeviceJudged,
    Event,
    FlagRaised,
    ModelPrivacySpent,
    PrivacyRefused,
    RoundFinished,
    RoundSkipped,
    RoundStarted,
    RunFinished,
    RunStarted,
    UpdateReceived,
    UpdateRejected,
)
from edgefl.monitor.state import FederationState
from edgefl.operations.budgets import unlasting
from edgefl.operations.fetch import fetch_model
from edgefl.operations.remember import remember
from edgefl.operations.state import inventory_of
from edgefl.operations.watch import watching
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned
from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.monitor.client import MonitorClient

STAGE = "run"


class RunFailed(EdgeflError):
    """The run ended without a result."""

    exit_code = ExitCode.RUN_FAILED


async def run(site: Site, overrides: Mapping[str, Any] | None = None, *, why: str = "") -> AsyncIterator[Progress]:
    """Start a run and follow it to its end; a run that is already going is followed. Where that is the one to resume, and it dies
    (it may be dead already, and nobody have seen it yet), it is gone on with.

    overrides: fields of the site's `run` section for this run alone; `resume` is the run to go on from, or `last`.
    why: the reason, for the audit log. The last event's detail has the run's id and result.
    Raises RunFailed, QuorumMissing, MonitorUnreachable, and HistoryRewritten where the journal's past is another than it was.
    Cancelled, the run itself goes on: the next call follows it.
    """
    inventory = inventory_of(site)
    began, asked = time.monotonic(), overrides or {}
    async with watching(site) as monitor:
        state = (await monitor.status(updates=False)).state
        for unheeded in overlooked(state, asked):
            yield unheeded
        is_meant = to_be_resumed(state, asked)
        while True:
            if state.run is not None and state.run.status == "running":
                number, after, what = state.run.id, 0, f"run {state.run.id} is going; following it"
                what += ", and going on with it should it die" if is_meant else ""
            else:
                number, after = await monitor.start_run(asked, why), state.seq
                what = f"run {number} started"
            rounds = int(asked.get("rounds", site.run.rounds))
            yield Started(STAGE, "", what, total=rounds, detail={"run": number})
            if after:
                for shortage in unlasting(site, state, rounds, STAGE):
                    yield shortage
            ended: RunFinished | None = None
            async with aclosing(_followed(monitor, number, after, rounds)) as told:
                async for said in told:
                    if isinstance(said, RunFinished):
                        ended = said
                    else:
                        yield said
            if ended is None or ended.status != "failed" or not is_meant:
                break
            yield Warned(STAGE, "", f"run {number} died: {ended.reason}")
            is_meant, state = False, (await monitor.status(updates=False)).state
        await remember(site, monitor)
    if ended is None or ended.status == "failed":
        raise RunFailed(
            f"run {number} failed: {ended.reason if ended else 'its end is not in the journal'}",
            hint="edgefl logs says why, edgefl run --resume goes on",
        )
    local = await fetch_model(site, inventory, number, ended.model, ended.model_sha256) if ended.model else None
    accuracy = "" if ended.accuracy is None else f", accuracy {ended.accuracy:.3f}"
    detail = {"run": number, **ended.model_dump(mode="json"), "local_model": str(local or "")}
    what = f"{number} {ended.status}{accuracy}"
    yield Finished(STAGE, "", what, changed=True, seconds=time.monotonic() - began, detail=detail)


async def _followed(monitor: MonitorClient, number: str, after: int, rounds: int) -> AsyncGenerator[Progress | RunFinished, None]:
    """What happens in a run, and its end last. after: the event that it begins behind."""
    async with aclosing(cast("AsyncGenerator[Event, None]", monitor.events(after))) as events:
        async for event in events:
            if event.run != number:
                continue
            rounds = event.body.rounds if isinstance(event.body, RunStarted) else rounds
            if isinstance(event.body, RunFinished):
                yield event.body
                return
            if (shown := progress_of(event, rounds)) is not None:
                yield shown


def overlooked(state: FederationState, overrides: Mapping[str, Any]) -> list[Warned]:
    """What the operator may not have thought of: a run that is going stays as it was begun, and one that died is not resumed."""
    if state.run is not None and state.run.status == "running":
        unheeded = set() if to_be_resumed(state, overrides) else set(overrides)
        what = f"run {state.run.id} stays as it was begun: nothing comes of {', '.join(sorted(unheeded))}"
        return [Warned(STAGE, "", what, hint="edgefl stop, then the same command")] if unheeded else []
    died = resumable(state) if "resume" not in overrides else ""
    return [Warned(STAGE, "", f"{died}; this is a new run", hint="edgefl run --resume goes on with it instead")] if died else []


def to_be_resumed(state: FederationState, overrides: Mapping[str, Any]) -> bool:
    """Whether the run that is going, by all that is known, is the one that is to be gone on with."""
    run, meant = state.run, str(overrides.get("resume", ""))
    if run is None or run.status != "running" or not meant:
        return False
    return meant == "last" or any(name.startswith(meant) for name in (run.id, run.resumes))


def resumable(state: FederationState) -> str:
    """What there is to resume, in words; empty where the last run is going, or did all of its rounds."""
    run = state.run
    if run is None or run.status not in {"failed", "stopped"}:
        return ""
    done = max((row.number for row in state.rounds if row.state == "finished"), default=0)
    ended = {"failed": "died", "stopped": "was stopped"}[run.status]
    return f"run {run.id} {ended} after round {done} of {run.rounds}" if done < run.rounds else ""


def progress_of(event: Event, rounds: int) -> Progress | None:
    """What an event of a run means to someone who waits for it; None for what is only detail."""
    body = event.body
    here = f"round {event.round}"
    match body:
        case RoundStarted():
            return Step(STAGE, here, f"of {rounds}: {len(body.devices)} devices train")
        case UpdateReceived():
            return Step(STAGE, body.device, f"round {event.round} update after {body.train_s:.1f} s of training")
        case UpdateRejected():
            return Warned(STAGE, body.device, f"round {event.round} update refused ({body.reason}): {body.detail}")
        case FlagRaised() | DeviceJudged():
            return _verdict(body, event.round)
        case DeviceDropped():
            return Warned(STAGE, body.device, f"round {event.round} without it: {body.reason}")
        case PrivacyRefused():
            return Warned(STAGE, body.device, f"round {event.round} refused by its own budget: {body.reason}")
        case ModelPrivacySpent():
            what = f"the models have spent epsilon {body.spent:.2f} of {body.limit:g}; {body.rounds_left} rounds are left"
            return Step(STAGE, here, what)
        case RoundSkipped():
            return Failed(STAGE, here, "does not count", why=body.reason, hint="edgefl devices")
        case RoundFinished():
            result = ", ".join(f"{name} {value:.3f}" for name, value in _result(body).items())
            return Finished(STAGE, here, result, seconds=sum(body.seconds.values()), detail=body.model_dump(mode="json"))
    return None


def _verdict(body: FlagRaised | DeviceJudged, round_: int) -> Progress:
    hint = f"edgefl devices {body.device}"
    if isinstance(body, FlagRaised):
        return Warned(STAGE, body.device, f"round {round_} flagged: {body.reason}", hint=hint)
    what = f"{body.conduct}: {body.reason}"
    graver = body.conduct in {"suspect", "quarantined"}
    return Warned(STAGE, body.device, what, hint=hint) if graver else Step(STAGE, body.device, what)


def _result(body: RoundFinished) -> dict[str, float]:
    shown = {"accuracy": body.accuracy, "loss": body.loss}
    return {name: value for name, value in shown.items() if value is not None} or dict(body.metrics)
