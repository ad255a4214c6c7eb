"""`edgefl audit`: attack the site's own task, and see what it gives away; `edgefl audit log`: who did what."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefl.cli import audit_log
from edgefl.errors import ExitCode

if TYPE_CHECKING:
    from edgefl.cli.output import Output

_EPILOG = """\
An audit never touches the devices' data: it trains and attacks on this machine, with the site's task and privacy terms, on
records of the same kind (`--data`; for a lab site its devices' own directories). The report, HTML and JSON, lies in
.edgefl/audits/; the result goes to the journal where there is a coordinator. Ctrl-C keeps what was finished; the same command
goes on.

examples:
  edgefl audit membership                         who was in the training data? at epsilon 1, 3, 5, 10, none, and the site's own
  edgefl audit membership --site sites/demo --epsilon 4,inf
  edgefl audit membership --data /srv/public/wards --records 500
  edgefl audit inversion                          records from one update: plain, clipped, with noise, in sums of all devices
  edgefl audit baseline                           the site's training, simulated, beside the same on pooled data
  edgefl audit membership --json | tail -1
  edgefl audit log --since 1d                     who did or decided what, and why: operators, policy, certificates, proofs
  edgefl audit log --verify                       every hash, here and on the coordinator; prints SEQ:HASH to be kept elsewhere
  edgefl audit log --verify --offline --seen 812:9f3c…

The log lies in the coordinator's journal. What was read of it stays in .edgefl/journal/, so that a coordinator that writes its
history anew is found out, by `edgefl status` too.
exit codes: 0 done · 2 no data, no such file · 10 site.yaml · 11 the task does not fit · 14 not provisioned
            33 the authority's key does not open · 53 more leaks than is claimed · 60 the coordinator does not answer
            61 the journal, or the copy of it, was tampered with: it names the first event that does not hold
"""
_EPSILONS = "1,3,5,10,inf"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of audit, their arguments and examples."""
    parser.epilog = _EPILOG
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    membership = kinds.add_parser("membership", help="can a record's presence in the training data be told from the model?")
    membership.add_argument(
        "--epsilon", type=_epsilons, metavar="E,E…", help=f"claims to audit (default: {_EPSILONS} and the site's)"
    )
    membership.add_argument("--models", type=int, metavar="N", help="models trained at each claim, an even number (default: 32)")
    membership.add_argument(
        "--records", type=int, metavar="N", help="records in all, half of them for each model (default: 1000)"
    )
    inversion = kinds.add_parser("inversion", help="what does one device's update show of the records behind it?")
    inversion.add_argument("--records", type=int, metavar="N", help="records to attack in each scene (default: 3)")
    inversion.add_argument("--devices", type=int, metavar="N", help="devices that a secure sum joins (default: the site's)")
    kinds.add_parser("baseline", help="what does federation cost? the same training on pooled data, with noise and without")
    attacks = dict(kinds.choices)
    audit_log.configure(kinds.add_parser("log", help="who did or decided what, when and why; checks the chain of hashes"))
    for name, kind in kinds.choices.items():
        kind.add_argument("--site", type=Path, default=Path(), metavar="DIR", help="directory of site.yaml (default: here)")
        if name in attacks:
            kind.add_argument(
                "--data", type=Path, action="append", metavar="DIR", help="records as a device has them; may come again"
            )
        kind.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line")


async def run(args: argparse.Namespace, out: Output) -> ExitCode:
    """Audit, then say what was found and where the report lies; or show the log."""
    if args.kind == "log":
        return await audit_log.run(args, out)
    from edgefl.operations.audit import audit
    from edgefl.site import load

    site = load(args.site)
    options: dict[str, Any] = {name: getattr(args, name, None) for name in ("models", "records", "devices")}
    if args.kind == "membership":
        options["levels"] = ",".join(
            f"{value:g}" for value in args.epsilon or _with_own(site.privacy.mode, site.privacy.epsilon_per_run)
        )
    elif args.kind == "inversion":
        options["devices"] = args.devices or site.secure.group_size or max(2, len(site.devices))
    given = {name: value for name, value in options.items() if value is not None}
    seen = await out.stream(audit(site, args.kind, data=args.data or (), options=given))
    result = dict(seen[-1].detail)
    out.result(result)
    return ExitCode.OK if result["passed"] else ExitCode.AUDIT_FAILED


def _with_own(mode: str, epsilon: float) -> list[float]:
    """The usual claims, and the site's own."""
    return sorted({*_epsilons(_EPSILONS), *([epsilon] if mode == "dp-sgd" else [])})


def _epsilons(text: str) -> list[float]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(value > 0 and not math.isnan(value) for value in found):
        raise argparse.ArgumentTypeError(f"{text!r}: epsilons above 0 with commas between, e.g. {_EPSILONS}")
    return found
