"""How the tree's nodes look: signs, words, bars, and what a node says when it is opened."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping

from edgefl.console import figures
from edgefl.console.ink import EMPTY, Ink, Tone, fit, ink, width
from edgefl.console.provisioning.lines import Line
from edgefl.console.provisioning.tree import Fault, Leaf, Mark, Stage, Task, Tree
from edgefl.operations.difference import differing

SIGNS: Mapping[Mark, tuple[str, Tone]] = {
    Mark.DONE: ("✓", Tone.GOOD),
    Mark.CHANGED: ("~", Tone.WARN),
    Mark.RUNNING: ("●", Tone.ACCENT),
    Mark.WARNED: ("!", Tone.WARN),
    Mark.STOPPED: ("■", Tone.WARN),
    Mark.FAILED: ("✖", Tone.BAD),
}
_ACTIONS = {"+": Tone.GOOD, "-": Tone.BAD}
_VERBS = {"plan": "plan", "up": "apply"}
_AGAIN = {"plan": "P plans again", "up": "A goes on from here"}
_DONE = {"up": "it stands and is proven; r starts a run"}
_DIFFERENCES = {"+": Tone.GOOD, "-": Tone.BAD, "@": Tone.ACCENT}


def sign_ink(line: Line) -> Ink:
    """What stands before a name: how it is, or what is to become of it."""
    if line.sign and line.mark is not Mark.FAILED:
        return ink(line.sign, _ACTIONS.get(line.sign, Tone.WARN))
    return ink(*SIGNS[line.mark])


def name_ink(line: Line, cells: int) -> Ink:
    """The line's place in the tree, its sign, its name and what is said of it."""
    fold = "  " if line.is_open is None else "▾ " if line.is_open else "▸ "
    tone = Tone.BAD if line.mark is Mark.FAILED else Tone.STRONG if line.depth == 0 else Tone.PLAIN
    said = ink(f"  {line.what}", Tone.MUTED) if line.what else EMPTY
    whole = (*ink("  " * line.depth), *ink(fold, Tone.MUTED), *sign_ink(line), *ink(" "), *ink(line.name, tone), *said)
    return whole if width(whole) <= cells else fit(whole, cells)


def bar_ink(line: Line, cells: int) -> Ink:
    """How far it is; of a host also how much of that changed and failed."""
    if line.share is None:
        return EMPTY
    filled = min(cells, max(1 if line.share else 0, round(line.share * cells)))
    failed = min(filled, max(1 if line.failures else 0, round(line.failures * filled)))
    changed = min(filled - failed, max(1 if line.changes else 0, round(line.changes * filled)))
    parts = (("✖", failed, Tone.BAD), ("~", changed, Tone.WARN), ("━", filled - failed - changed, Tone.GOOD))
    drawn = tuple(run for sign, many, tone in parts for run in ink(sign * many, tone))
    return (*drawn, *ink("─" * (cells - filled), Tone.MUTED))


def headline(tree: Tree, now: float, *, is_stopping: bool) -> list[Ink]:
    """Two lines above the tree: how the operation stands, and what to do next."""
    verb, took = _VERBS.get(tree.operation, tree.operation), figures.span(tree.seconds(now))
    counts = f"{tree.changed} {'would change' if tree.operation == 'plan' else 'changed'}, {tree.failed} failed"
    site = f" of {tree.site}" if tree.site else ""
    if tree.mark is Mark.RUNNING:
        word = ("■ stopping", Tone.WARN) if is_stopping else ("● at work", Tone.ACCENT)
        stage = tree.current
        next_ = "what is in hand is finished; nothing is lost" if is_stopping else stage.what if stage else "begins"
        where = ink(f"{stage.name}: " if stage and not is_stopping else "", Tone.STRONG)
        return [_first(word, f"{verb}{site}", took, counts), (*where, *ink(next_, Tone.MUTED))]
    if tree.mark is Mark.STOPPED:
        again = _AGAIN.get(tree.operation, "the same again goes on from here")
        return [_first(("■ stopped", Tone.WARN), f"{verb}{site}", took, counts), ink(f"nothing is lost; {again}", Tone.MUTED)]
    if tree.fault is not None:
        first = tree.fault.what.splitlines()[0]
        hint = ink(f"next: {tree.fault.hint}", Tone.STRONG) if tree.fault.hint else EMPTY
        return [_first(("✖ failed", Tone.BAD), f"{verb}{site}", took, counts), ink(first, Tone.BAD), hint]
    if tree.operation == "plan":
        done = "A applies it" if tree.changed else "it is as site.yaml says"
        return [_first(("✓ planned", Tone.GOOD), f"{verb}{site}", took, counts), ink(done, Tone.MUTED)]
    return [
        _first(("✓ done", Tone.GOOD), f"{verb}{site}", took, counts),
        ink(_DONE.get(tree.operation, ""), Tone.MUTED),
    ]


def _first(word: tuple[str, Tone], what: str, took: str, counts: str) -> Ink:
    return (*ink(*word), *ink(f"  {what}", Tone.STRONG), *ink(f"  {took}  {counts}", Tone.MUTED))


def story(line: Line, fault: Fault | None, cells: int) -> list[Ink]:
    """All that a node says, in lines of at most `cells`."""
    return list(_story(line, fault, max(20, cells)))


def _story(line: Line, fault: Fault | None, cells: int) -> Iterator[Ink]:
    node = line.node
    yield (*sign_ink(line), *ink(f" {line.name}", Tone.STRONG), *ink("  took ", Tone.MUTED), *ink(figures.seconds(line.seconds)))
    yield EMPTY
    if isinstance(node, Leaf):
        yield from _leaf(node, cells)
    elif isinstance(node, Task):
        for leaf in node.hosts.values():
            if leaf.mark is Mark.FAILED:
                yield ink(f"✖ {leaf.subject or 'every host'}", Tone.BAD)
                yield from _leaf(leaf, cells)
                yield EMPTY
    else:
        yield from _wrapped(line.what, cells, Tone.PLAIN)
    if isinstance(node, Stage) and node.mark is Mark.FAILED and fault is not None:
        yield EMPTY
        for text in fault.lines:
            yield from _wrapped(text, cells, Tone.STRONG if text.startswith("  next:") else Tone.BAD)


def _leaf(leaf: Leaf, cells: int) -> Iterator[Ink]:
    yield from _wrapped(leaf.what, cells, Tone.PLAIN)
    if leaf.why:
        yield EMPTY
        yield from _wrapped(leaf.why, cells, Tone.BAD if leaf.mark is Mark.FAILED else Tone.PLAIN)
    if leaf.hint:
        yield from _wrapped(f"next: {leaf.hint}", cells, Tone.STRONG)
    result = leaf.detail.get("result")
    if isinstance(result, Mapping) and result:
        yield EMPTY
        yield ink(f"what {leaf.detail.get('action') or 'the module'} said", Tone.MUTED)
        for key, value in result.items():
            yield from _wrapped(f"{key}: {_text(value)}", cells, Tone.PLAIN)
    if differs := differing(leaf.detail):
        yield EMPTY
        yield ink("what differs", Tone.MUTED)
        for text in differs:
            yield from _wrapped(text, cells, _DIFFERENCES.get(text[:1], Tone.PLAIN))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _wrapped(text: str, cells: int, tone: Tone) -> Iterator[Ink]:
    """The text in lines that fit; its own line breaks stay."""
    for line in text.expandtabs(4).splitlines():
        indent = " " * min(8, len(line) - len(line.lstrip()))
        parts = textwrap.wrap(line, cells, subsequent_indent=indent, drop_whitespace=False, break_on_hyphens=False) or [""]
        for part in parts:
            yield ink(part, tone)
