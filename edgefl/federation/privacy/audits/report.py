"""An audit as one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from edgefl.federation.privacy.audits import plots
from edgefl.federation.privacy.audits.results import Audit, Baseline, Inversion, Level, Membership

TITLES = {
    "membership": "Membership inference",
    "inversion": "Gradient inversion",
    "baseline": "Federated beside centralised",
}
_CSS = """
:root { color-scheme: light; }
body {
  font: 16px/1.5 system-ui, sans-serif; color: #1d1d1f; background: #fff; max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem;
}
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { border-left: .4rem solid; padding: .6rem 1rem; margin: 1.2rem 0; background: #f6f7f8; }
.good { border-color: #009e73; }
.bad { border-color: #d55e00; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; caption-side: bottom; color: #555; padding-top: .4rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: middle; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: #444; vertical-align: bottom; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1.2rem; }
.plots svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
img { image-rendering: pixelated; height: 56px; border: 1px solid #ccc; margin: 1px; vertical-align: middle; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: #555; }
dd { margin: 0; overflow-wrap: anywhere; }
p.note { color: #444; max-width: 54rem; }
"""


def html(audit: Audit) -> str:
    """The page."""
    result = audit.result
    match result:
        case Membership():
            body = _membership(result)
        case Inversion():
            body = _inversion(result)
        case Baseline():
            body = _baseline(result)
    heading = f"{TITLES[result.kind]}: {escape(audit.site)}"
    verdict = f'<p class="verdict {"good" if result.passed else "bad"}">{escape(says(audit))}</p>'
    about = {
        "task": audit.task,
        "parameters": json.dumps(audit.parameters),
        "data": ", ".join(audit.data),
        "when": audit.at,
        "took": f"{audit.seconds:.0f} s",
        "edgefl": audit.edgefl,
        "site.yaml": audit.site_hash,
        "task's source (SHA-256)": audit.task_sha256,
        "records (SHA-256)": audit.data_sha256,
        "seed": str(audit.seed),
    }
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in about.items() if value)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">\n'
        f"<title>{heading}</title><style>{_CSS}</style></head><body>\n<h1>{heading}</h1>\n{verdict}\n{body}\n"
        f"<h2>What was audited</h2><dl>{facts}</dl>\n</body></html>\n"
    )


def says(audit: Audit) -> str:
    """The verdict in a sentence or two."""
    match audit.result:
        case Membership() as result:
            trained = [level for level in result.levels if not level.refused]
            broken = [level for level in trained if level.is_broken]
            if broken:
                names = ", ".join(f"{level.epsilon_low:.2f} where {level.epsilon:g} is claimed" for level in broken)
                return f"The claim does not hold: epsilon is at least {names}. What trains here is not what was accounted for."
            site = next((level for level in trained if level.is_site), None)
            if site is None:
                return "No level leaks more than it claims."
            claim = "nothing is claimed" if site.epsilon is None else f"{site.epsilon:g} is claimed"
            return (
                f"No level leaks more than it claims. Under this site's terms the better attack reaches an AUC of {site.auc:.3f} "
                f"(0.5 is guessing), which proves an epsilon of at least {site.epsilon_low:.2f}; {claim}."
            )
        case Inversion() as result:
            own = [scene for scene in result.scenes if scene.is_site]
            seen = max((scene.psnr for scene in own), default=0.0)
            shown = (
                f"Under this site's terms the best reconstruction reaches {seen:.1f} dB; the mean record, which needs no update, "
            )
            shown += f"{result.guess_psnr:.1f} dB. " if own else ""
            if not result.passed:
                return f"{shown}A record was recovered in spite of differential privacy."
            return f"{shown if own else ''}Where noise is added, no record was recovered."
        case Baseline() as result:
            ends = ", ".join(f"{name} {value:.3f}" for name, value in result.figures.items())
            return f"After {result.rounds} rounds: {ends}."


def _membership(result: Membership) -> str:
    rows = [_level_row(level) for level in result.levels]
    head = ("claim", "noise σ", "right on members", "on others", "LiRA: AUC (95 %)", "TPR at 1 % FPR", "loss: AUC (95 %)")
    table = _table((*head, "TPR at 1 % FPR", "ε at least"), rows, "* this site's own terms")
    clipping = "" if result.max_grad_norm is None else f", gradients clipped to {result.max_grad_norm:g}"
    how = (
        f"At each level {result.models} models were trained for {result.rounds} rounds of {result.steps} steps at sampling rate "
        f"{result.sampling_rate:.3g}{clipping}, as a device trains, each on its own random half of {result.records} records. An "
        f"attacker who has the final model and models of its own asks of each record whether it was used. “No noise” is the same "
        f"training without noise. δ is {result.delta:g}."
    )
    meaning = (
        "AUC intervals are DeLong's, with dependence within models and within records. “ε at least” is a 95 % lower bound: half "
        "of the models are references, the memberships of the other half are guessed, and no smaller ε explains so many right "
        "guesses (Steinke, Nasr, Jagielski, 2023; at δ = 0 it is Clopper and Pearson's bound of their accuracy). It can show "
        "that a claim is broken; that it lies far below the claim proves nothing: another attack may find more."
    )
    return (
        f'<div class="scroll">{table}</div>\n'
        f'<div class="plots">{plots.curves(result)}{plots.areas(result)}{plots.bounds(result)}</div>\n'
        f'<p class="note">{how}</p>\n<p class="note">{meaning}</p>'
    )


def _level_row(level: Level) -> list[str]:
    name = plots.title(level)
    if level.refused:
        return [escape(name), f'<td colspan="8" style="text-align:left">{escape(level.refused)}</td>']
    cells = [escape(name), f"{level.sigma:g}", _share(level.accuracy_in), _share(level.accuracy_out)]
    for attack in level.attacks:
        cells += [f"{attack.auc.value:.3f} ({attack.auc.low:.3f}–{attack.auc.high:.3f})", f"{attack.tpr_at_1:.1%}"]
    return [*cells, f"<b>{level.epsilon_low:.2f}</b>"]


def _inversion(result: Inversion) -> str:
    rows = []
    for scene in result.scenes:
        cells = [escape(scene.name) + (" *" if scene.is_site else ""), f"{scene.sigma:g}", str(scene.devices)]
        for found in scene.reconstructions:
            pictures = "".join(_image(picture, f"{found.attack} reconstruction") for picture in found.pictures)
            cells += [f"{found.psnr:.1f}", f"{found.mean_psnr:.1f}", pictures or "–"]
        rows.append([*cells, escape(scene.reconstructions[-1].method)])
    head = ("what the attacker sees", "noise σ", "devices", "naive: best dB", "mean", "", "adaptive: best dB", "mean", "", "by")
    originals = "".join(_image(picture, "a record as the model reads it") for picture in result.originals)
    shown = f"<p>The records, as the model's first layer reads them: {originals}</p>\n" if originals else ""
    how = (
        f"The worst case for a device: one record, one step, and an attacker who owns the coordinator and knows the model and "
        f"the label. {result.records} records were attacked. Naive is gradient matching by squared distance (Zhu et al., 2019); "
        f"adaptive tries matching by direction alone (Geiping et al., 2020), which does not mind clipping, and reading the "
        f"record off the first layer's weights; its best counts. PSNR is measured on what that layer reads; the mean record, "
        f"which needs no update at all, has {result.guess_psnr:.1f} dB. "
        f"A record counts as recovered from {result.recognisable:g} dB on."
    )
    table = _table(head, rows, "* this site's own terms")
    return (
        f'{shown}<div class="scroll">{table}</div>\n<div class="plots">{plots.recovered(result)}</div>\n<p class="note">{how}</p>'
    )


def _baseline(result: Baseline) -> str:
    names = list(dict.fromkeys(name for curve in result.curves for name in (curve.metrics[-1] if curve.metrics else ())))
    rows = []
    for curve in result.curves:
        last = curve.metrics[-1] if curve.metrics else {}
        claim = "none" if curve.epsilon is None else f"{curve.epsilon:g}"
        figures = [f"{last[name]:.4f}" if name in last else "–" for name in names]
        rows.append([escape(curve.name) + (" *" if curve.is_site else ""), claim, *figures, f"{curve.seconds:.0f}"])
    table = _table(("training", "ε a run", *names, "s"), rows, "* as this site trains")
    how = (
        f"Centralised training has all {result.records} records of {result.devices} devices in one place and takes as many steps "
        f"({result.rounds} rounds of {result.steps}) at the same sampling rate, learning rate and, where there is noise, noise "
        f"multiplier: each record is used as often and has the same ε. Measured on the devices' held-out records."
    )
    return f'<div class="scroll">{table}</div>\n<div class="plots">{plots.progress(result)}</div>\n<p class="note">{how}</p>'


def _table(head: Iterable[str], rows: Iterable[list[str]], caption: str) -> str:
    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        "<tr>" + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f"<table><caption>{caption}</caption><thead><tr>{titles}</tr></thead>\n<tbody>{lines}</tbody></table>"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _image(picture: str, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{picture}">'
