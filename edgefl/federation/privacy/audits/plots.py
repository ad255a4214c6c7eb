"""An audit's figures as pictures: SVG text that stands in the report itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edgefl.errors import EdgeflError
from edgefl.federation.privacy.audits.results import Baseline, Inversion, Level, Membership

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "svg.hashsalt": "edgefl",  # the same figures give the same file
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
"""Okabe and Ito's, which those who see few colours can tell apart."""


class PlotsMissing(EdgeflError):
    """The report's plots are drawn by a library that is not here."""


def require() -> None:
    """Raise PlotsMissing before an audit's work rather than after it."""
    if find_spec("matplotlib") is None:
        raise PlotsMissing("the report's plots need matplotlib, which is missing", hint="pip install 'edgefl[audit]'")


def curves(result: Membership) -> str:
    """ROC curves, both axes logarithmic: what matters is the left end, where a guess is rarely wrong."""

    def draw(axes: Axes) -> None:
        axes.plot([1e-4, 1], [1e-4, 1], color="#999999", linestyle=":", label="guessing")
        for colour, level in zip(COLOURS * 2, _trained(result), strict=False):
            best = max(level.attacks, key=lambda attack: attack.auc.value)
            points = [(x, y) for x, y in zip(best.false, best.true, strict=True) if x > 0 and y > 0]
            axes.plot(*zip(*points, strict=True), color=colour, label=f"{title(level)} ({best.name})")
        axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1))
        axes.set(xlabel="false positive rate", ylabel="true positive rate", title="Who was in the training data?")
        axes.axvline(0.01, color="#999999", linewidth=0.8)
        axes.legend(loc="lower right")

    return _svg(draw)


def areas(result: Membership) -> str:
    """Area under each attack's curve by claimed epsilon, with its interval."""

    def draw(axes: Axes) -> None:
        levels = _trained(result)
        for shift, colour, place in ((-0.08, COLOURS[0], 0), (0.08, COLOURS[1], 1)):
            found = [level.attacks[place] for level in levels]
            middle = [attack.auc.value for attack in found]
            reach = [
                [value - attack.auc.low for value, attack in zip(middle, found, strict=True)],
                [attack.auc.high - value for value, attack in zip(middle, found, strict=True)],
            ]
            where = [number + shift for number in range(len(levels))]
            name = found[0].name if found else ""
            axes.errorbar(where, middle, yerr=reach, fmt="o", color=colour, capsize=3, label=name)
        axes.axhline(0.5, color="#999999", linestyle=":", label="guessing")
        axes.set_xticks(range(len(levels)), [title(level) for level in levels])
        axes.set(ylabel="area under the ROC curve", title="How well do the attacks tell members apart?")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper left")

    return _svg(draw)


def bounds(result: Membership) -> str:
    """The claimed epsilon beside what the attacks prove of it."""

    def draw(axes: Axes) -> None:
        levels = [level for level in _trained(result) if level.epsilon is not None]
        where = range(len(levels))
        axes.bar(where, [level.epsilon or 0 for level in levels], color="#d8e6f0", label="claimed")
        axes.bar(where, [level.epsilon_low for level in levels], width=0.45, color=COLOURS[1], label="proven (95 % lower bound)")
        for place, level in zip(where, levels, strict=True):
            axes.annotate(f"{level.epsilon_low:.2f}", (place, level.epsilon_low), ha="center", va="bottom", fontsize=9)
        axes.set_xticks(where, [title(level) for level in levels])
        axes.set(ylabel="epsilon", title="Is the claim kept?")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper left")

    return _svg(draw)


def recovered(result: Inversion) -> str:
    """What each attack recovered from each observation, in dB."""

    def draw(axes: Axes) -> None:
        names = [scene.name for scene in result.scenes]
        for shift, colour, place in ((-0.18, COLOURS[0], 0), (0.18, COLOURS[1], 1)):
            found = [scene.reconstructions[place] for scene in result.scenes]
            where = [number + shift for number in range(len(names))]
            axes.barh(where, [one.psnr for one in found], height=0.34, color=colour, label=found[0].attack)
        axes.axvline(result.guess_psnr, color="#999999", linestyle=":", label="the mean record")
        axes.axvline(result.recognisable, color="#333333", linewidth=1, label="recognisable")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel="PSNR in dB, best record", title="What does an update show?")
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower right")

    return _svg(draw)


def progress(result: Baseline) -> str:
    """Accuracy (or loss) after each round, of each way to train."""

    def draw(axes: Axes) -> None:
        metric = "accuracy" if all("accuracy" in curve.metrics[-1] for curve in result.curves if curve.metrics) else "loss"
        styles = {"federated": "-", "centralised": "--", "fleet": "-."}
        for colour, curve in zip(COLOURS * 2, result.curves, strict=False):
            values = [metrics.get(metric, float("nan")) for metrics in curve.metrics]
            rounds = range(1, len(values) + 1)
            width = 2.4 if curve.is_site else 1.5
            axes.plot(
                rounds, values, styles[curve.where], color=colour, linewidth=width, marker="o", markersize=3, label=curve.name
            )
        axes.set(xlabel="round", ylabel=metric, title="Federated beside centralised")
        axes.set_xticks(range(1, result.rounds + 1, max(1, result.rounds // 10)))
        axes.legend(loc="lower right" if metric == "accuracy" else "upper right")

    return _svg(draw)


def title(level: Level) -> str:
    """A level on an axis."""
    return "no noise" if level.epsilon is None else f"ε {level.epsilon:g}" + (" *" if level.is_site else "")


def _trained(result: Membership) -> list[Level]:
    return [level for level in result.levels if not level.refused]


def _svg(draw: Callable[[Axes], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):  # type: ignore[arg-type]  # its names are a closed list of literals
        figure = Figure(figsize=(5.8, 4.0), layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
