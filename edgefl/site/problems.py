"""pydantic's errors as findings: one per mistake, in the words of a person who edits YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edgefl.site.invalid import Finding
from edgefl.site.model import Site
from edgefl.site.source import Location, Source

NAME = "a lower-case name of letters, digits and hyphens that begins with a letter, at most 32 characters"
_EXPECTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "bool": lambda _: "true or false",
    "int": lambda _: "a whole number",
    "float": lambda _: "a number",
    "string": lambda _: "text",
    "path": lambda _: "a path",
    "list": lambda _: "a list (`- …` on lines of their own)",
    "model": lambda _: "a section (`key: value` lines below it)",
    "dict": lambda _: "a section (`key: value` lines below it)",
    "ip_v4_interface": lambda _: "the operator's IPv4 address with the network's size, e.g. 10.77.0.1/24",
    "ip": lambda _: "an IP address, e.g. 10.77.0.12",
    "string_pattern_mismatch": lambda _: NAME,
    "literal_error": lambda ctx: str(ctx["expected"]).replace("'", ""),
    "greater_than": lambda ctx: f"more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"at least {ctx['ge']:g}",
    "less_than": lambda ctx: f"less than {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"at most {ctx['le']:g}",
    "finite_number": lambda _: "a finite number",
    "too_short": lambda ctx: f"at least {ctx['min_length']} of them",
}

_LEFT_OUT: Mapping[tuple[str, str], str] = {
    ("privacy", "gdp"): "leave it out: epsilon is counted with PRV, and GDP's is less than was really spent",
    ("privacy", "accountant"): "leave it out: epsilon is counted with PRV, the tightest that holds; gdp's is less than was spent",
    ("privacy", "poisson_sampling"): "leave it out: batches are Poisson samples, without which no epsilon holds; "
    "mode: none shuffles, and claims none",
}
"""Keys of other tools whose absence here is meant, and what there is in their place."""


def findings(error: ValidationError, source: Source) -> dict[Location, Finding]:
    """Every mistake that pydantic found, by its location in the file.

    A union fails once for each of its members, deeper than the file goes; those are one mistake here.
    """
    found: dict[Location, Finding] = {}
    for location, problems in _grouped(error, source):
        first = problems[0]
        if first["type"] == "extra_forbidden":
            finding = _unknown(location, source)
        elif first["type"] == "missing":
            finding = Finding(source.where(location), f"{dotted(location)} is missing", _meaning(location))
        else:
            finding = _wrong(location, problems, source)
        found[location] = finding
    return found


def dotted(location: Location) -> str:
    """A location as people write it: `devices[3].name`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".") or "the file"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, if any is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def _grouped(error: ValidationError, source: Source) -> Iterator[tuple[Location, list[Any]]]:
    groups: dict[Location, list[Any]] = {}
    for problem in error.errors(include_url=False):
        location = problem["loc"] if problem["type"] == "missing" else tuple(source.holds(problem["loc"]))
        groups.setdefault(location, []).append(problem)
    yield from groups.items()


def _unknown(location: Location, source: Source) -> Finding:
    key, section = str(location[-1]), dotted(location[:-1])
    known = list(model_at(location[:-1]).model_fields)
    meant = nearest(key, known)
    usual = f"did you mean {meant}?" if meant else f"known here: {', '.join(known)}"
    hint = _LEFT_OUT.get((section, key), usual)
    return Finding(source.where(location), f"unknown key {key!r} in {section}", hint)


def _wrong(location: Location, problems: list[Any], source: Source) -> Finding:
    given = problems[0]["input"]
    expected = ", or ".join(dict.fromkeys(_expected(problem) for problem in problems))
    meant = nearest(str(given), re.split(", | or ", expected)) if problems[0]["type"] == "literal_error" else None
    what = f"{dotted(location)} must be {expected}, not {_shown(given)}"
    if expected == "text" and isinstance(given, int | float):
        return Finding(source.where(location), what, f'put it in quotes: "{given}"')
    return Finding(source.where(location), what, f"did you mean {meant}?" if meant else _meaning(location))


def _expected(problem: Mapping[str, Any]) -> str:
    kind, context = str(problem["type"]), problem.get("ctx") or {}
    for name in (kind, kind.rpartition("_")[0], kind.partition("_")[0]):
        if name in _EXPECTED:
            return _EXPECTED[name](context)
    return str(problem["msg"]).removeprefix("Input should be ")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)


def _meaning(location: Location) -> str:
    """The docstring of the field at the location; empty where there is none."""
    try:
        field = model_at(location[:-1]).model_fields[str(location[-1])]
    except (KeyError, IndexError):
        return ""
    return field.description or ""


def model_at(location: Location) -> type[BaseModel]:
    """The model whose keys stand at a location; KeyError where a plain value stands."""
    model: type[BaseModel] = Site
    for step in location:
        if isinstance(step, str):
            model = _model_in(model.model_fields[step].annotation)
    return model


def _model_in(annotation: Any) -> type[BaseModel]:
    """The model that an annotation names, by itself or as a list's item."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    raise KeyError(annotation)
