"""The program: audits on the records in `--data`; one JSON object of progress a line, the last one says where the report lies.

Finished parts are kept in `--parts` until the report is written, so that one that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from edgefl import __version__
from edgefl.errors import EdgeflError, ExitCode
from edgefl.federation.privacy.audits import plots, report
from edgefl.federation.privacy.audits.baseline import baseline, centralised, federated
from edgefl.federation.privacy.audits.inversion import audit_scene, inversion, settings_of
from edgefl.federation.privacy.audits.membership import audit_level, membership
from edgefl.federation.privacy.audits.results import KINDS, Audit, Baseline, Curve, Inversion, Level, Membership, Result, Scene
from edgefl.federation.privacy.audits.subject import Subject
from edgefl.federation.privacy.plan import PrivacyTerms
from edgefl.federation.task import load_task
from edgefl.progress import Progress, Step
from edgefl.site.model import Aggregation

R = TypeVar("R", bound=Result)
Found = Membership | Inversion | Baseline


class Parts:
    """Results of parts of an audit that was not finished, by all that they depend on."""

    def __init__(self, directory: Path | None, subject: Subject) -> None:
        self._directory = directory
        whole = (__version__, subject.task_sha256, subject.data_sha256, subject.parameters, subject.terms, subject.private)
        self._about = repr((*whole, subject.seed))
        self._used: list[Path] = []

    def take(self, kind: type[R], question: object, answer: Callable[[], Iterator[Progress | R]]) -> Iterator[Progress | R]:
        """The kept result of a question, or its answer, kept."""
        if self._directory is None:
            yield from answer()
            return
        mark = hashlib.sha256(f"{kind.__name__} {self._about} {question!r}".encode()).hexdigest()
        path = self._directory / f"{mark}.json"
        self._used.append(path)
        if path.exists():
            yield Step(kind.__name__.lower(), "", "known from before")
            yield kind.model_validate_json(path.read_bytes())
            return
        for said in answer():
            if isinstance(said, kind):
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                draft = path.with_suffix(".new")
                draft.write_text(said.model_dump_json())
                draft.replace(path)
            yield said

    def drop(self) -> None:
        """Forget what was used: it stands in the report now."""
        for path in self._used:
            path.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; exits with the error's code, and prints the error as JSON, where there is nothing to report."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(1)  # threads cost more in waiting for each other than small products compute
    began = time.monotonic()
    try:
        plots.require()
        site = json.loads(given.site)
        terms = PrivacyTerms(given.epsilon_limit, given.epsilon, given.delta, given.max_grad_norm, given.rounds)
        task = load_task(given.task, given.root)
        subject = Subject(task, task.settle(given.parameters), terms, not given.no_privacy, given.data, given.seed)
        parts = Parts(given.parts, subject)
        result: Found | None = None
        for said in _audit(given, subject, parts):
            if isinstance(said, Progress):
                _print(said.as_dict())
            else:
                result = said
        if result is None:
            raise RuntimeError("an audit ended without a result")
        audit = Audit(
            edgefl=__version__,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            site=site.get("name", ""),
            site_hash=site.get("hash", ""),
            task=task.ref,
            task_sha256=subject.task_sha256,
            parameters=dict(subject.parameters),
            data=[str(directory) for directory in given.data],
            data_sha256=subject.data_sha256,
            seconds=time.monotonic() - began,
            seed=given.seed,
            result=result,
        )
        written = _write(given.out, audit)
        parts.drop()
    except EdgeflError as error:
        _print(error.as_dict())
        return int(error.exit_code)
    _print(
        {
            "result": {
                "kind": result.kind,
                "passed": result.passed,
                "says": report.says(audit),
                "figures": result.figures,
                **written,
            }
        }
    )
    return ExitCode.OK


def _audit(given: argparse.Namespace, subject: Subject, parts: Parts) -> Iterator[Progress | Found]:
    if given.kind == "membership":
        size = {"models": given.models, "records": given.records or 1000}
        levels = yield from _all(parts, Level, [((at, size), partial(audit_level, subject, at, **size)) for at in given.levels])
        yield membership(subject, levels, **size)
    elif given.kind == "inversion":
        records = given.records or 3
        settings = settings_of(subject, given.devices, sums=given.sums)
        asked = [((setting, records), partial(audit_scene, subject, setting, records=records)) for setting in settings]
        scenes = yield from _all(parts, Scene, asked)
        yield inversion(subject, scenes, records=records)
    else:
        terms = (given.aggregation, tuple(given.personal_layers))
        noises = (True, False) if subject.private else (False,)
        alone = [(("centralised", noise), partial(centralised, subject, noise=noise)) for noise in noises]
        curves = yield from _all(parts, Curve, [(("federated", *terms), partial(federated, subject, *terms)), *alone])
        yield baseline(subject, curves)


def _all(
    parts: Parts, kind: type[R], asked: Sequence[tuple[object, Callable[[], Iterator[Progress | R]]]]
) -> Generator[Progress, None, list[R]]:
    """The progress of every question's answer; returns the answers."""
    found: list[R] = []
    for question, answer in asked:
        for said in parts.take(kind, question, answer):
            if isinstance(said, kind):
                found.append(said)
            elif isinstance(said, Progress):
                yield said
    return found


def _write(directory: Path, audit: Audit) -> dict[str, str]:
    """report.html, then report.json: where the second is, the first is too."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    html, text = report.html(audit), audit.model_dump_json(indent=2)
    for name, content in (("report.html", html), ("report.json", text + "\n")):
        draft = directory / f".{name}.new"
        draft.write_text(content)
        draft.replace(directory / name)
    return {"report": str(directory / "report.html"), "json": str(directory / "report.json")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgefl.federation.privacy.audits", description="Attack a task's models and updates on purpose."
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--task", required=True, help="a Python module or a file")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="where the task's file is relative to")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="a device's directory of records; may come again"
    )
    parser.add_argument("--out", type=Path, required=True, help="where report.html and report.json go")
    parser.add_argument("--parts", type=Path, help="where finished parts are kept until then")
    parser.add_argument("--site", default="{}", help='JSON, {"name": …, "hash": …}: whom the report is about')
    parser.add_argument("--parameters", type=json.loads, default={}, help="the task's, as JSON")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epsilon", type=float, default=4.0, help="the site's claim for a run")
    parser.add_argument("--epsilon-limit", type=float, default=float("inf"))
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--no-privacy", action="store_true", help="the site trains without differential privacy")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--levels", type=_levels, default=[1.0, 3.0, 5.0, 10.0, None], help="epsilons with commas between; `inf`")
    parser.add_argument("--models", type=int, default=32, help="membership: models at each level")
    parser.add_argument("--records", type=int, help="membership: to train on, half of them each (1000); inversion: to attack (3)")
    parser.add_argument("--devices", type=int, default=8, help="inversion: devices that a secure sum joins")
    parser.add_argument("--sums", action="store_true", help="inversion: the site's devices send secure sums")
    parser.add_argument(
        "--aggregation", type=Aggregation.model_validate_json, default=Aggregation(), help="baseline: as in site.yaml, as JSON"
    )
    parser.add_argument("--personal-layers", type=json.loads, default=[], help="baseline: as in site.yaml, as JSON")
    return parser


def _levels(text: str) -> list[float | None]:
    found = [float(word) for word in text.split(",")]
    if not all(value > 0 for value in found):
        raise ValueError(text)
    return [None if value == float("inf") else value for value in found]


def _print(mapping: dict[str, object]) -> None:
    print(json.dumps(mapping, default=str), flush=True)  # noqa: T201  # this is the program's edge


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
