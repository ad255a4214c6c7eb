"""The device's own record of epsilon spent: append-only, hash-chained, charged before a round trains, and fail-closed.

The database holds one row per charge, each with the SHA-256 of itself and the row before it. Beside it `<name>.head` names the
newest row, written after the row is safe: a database that is older than its head, shorter, or gone is a rolled-back one.
Whatever does not add up refuses to train (LedgerBroken); a crash between row and head, or in the middle of SQLite's own
commit, does not. The directory outlives reinstallation (the roles never remove it), so budgets do too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgefl.federation.privacy.accounting import Steps, epsilon, rounds_left
from edgefl.federation.privacy.plan import BudgetExceeded, PrivacyPlan, PrivacyRefused

GENESIS = "0" * 64
SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    seq INTEGER PRIMARY KEY,
    body TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT
"""


class LedgerBroken(PrivacyRefused):
    """The ledger cannot be trusted: changed, cut, rolled back, unreadable. The device does not train privately any more."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the privacy ledger {path} cannot be trusted: {why}",
            hint="restore it with its .head file from a backup that is not older, or retire the device's data",
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """One row: what a round was allowed to do, and what was spent with it. `solved` is the plan's question to which sigma is
    the answer.
    """

    at: str
    run: str
    round: int
    sigma: float
    sampling_rate: float
    steps: int
    records: int
    delta: float
    spent: float
    rounds_left: int
    solved: str

    @property
    def of(self) -> Steps:
        """The charge as the accountant counts it."""
        return Steps(self.sigma, self.sampling_rate, self.steps)


@dataclass(frozen=True, slots=True)
class PrivacyReport:
    """What a round cost and what is left: the event `privacy_spent` without its device, and the round's own cost.

    spent: epsilon at delta over everything the device ever did. run_spent: over this run alone. cost: how much this round
    added.
    """

    spent: float
    limit: float
    delta: float
    sigma: float
    sampling_rate: float
    run_spent: float
    rounds_left: int
    cost: float


class Ledger:
    """The ledger at a path. Each call locks, reads and verifies anew: a fork, a restart or a second process sees the same
    truth.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_name(path.name + ".head")
        self._lock = path.with_name(path.name + ".lock")

    def charges(self) -> list[Charge]:
        """Every charge so far, verified. Raises LedgerBroken."""
        with self._open() as database:
            return self._verified(database)

    def spent(self, delta: float) -> float:
        """Epsilon spent at delta over the device's whole history. Raises LedgerBroken."""
        return epsilon([charge.of for charge in self.charges()], delta)

    def known_sigma(self, plan_question: str) -> float | None:
        """The sigma that was solved for the same question before, to save solving it every round."""
        return next((charge.sigma for charge in reversed(self.charges()) if charge.solved == plan_question), None)

    def charge(self, plan: PrivacyPlan, run: str, round_: int) -> PrivacyReport:
        """Write down a round before it trains. When this returns, the charge is on the disk.

        Every call is charged, also a round trained a second time: it draws new noise from the same records.
        Raises BudgetExceeded, leaving the ledger as it is, when the round would end above the device's limit; LedgerBroken.
        """
        terms = plan.terms
        with self._open() as database:
            charges = self._verified(database)
            history = [charge.of for charge in charges]
            before = charges[-1].spent if charges and charges[-1].delta == terms.delta else epsilon(history, terms.delta)
            spent = epsilon([*history, plan.a_round], terms.delta)
            if spent > terms.epsilon_limit:
                raise BudgetExceeded(before, terms.epsilon_limit, spent - before, terms.delta)
            of_run = [charge.of for charge in charges if charge.run == run]
            run_spent = spent if len(of_run) == len(history) else epsilon([*of_run, plan.a_round], terms.delta)
            guess = charges[-1].rounds_left - 1 if charges else None
            left = rounds_left([*history, plan.a_round], plan.a_round, terms.delta, terms.epsilon_limit, guess)
            self._append(
                database,
                Charge(
                    at=datetime.now(UTC).isoformat(timespec="seconds"),
                    run=run,
                    round=round_,
                    sigma=plan.sigma,
                    sampling_rate=plan.sampling_rate,
                    steps=plan.steps,
                    records=plan.records,
                    delta=terms.delta,
                    spent=spent,
                    rounds_left=left,
                    solved=question(plan),
                ),
            )
        return PrivacyReport(
            spent, terms.epsilon_limit, terms.delta, plan.sigma, plan.sampling_rate, run_spent, left, spent - before
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The database under the ledger's lock, in one exclusive transaction that commits when the block ends well."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerBroken(self.path, f"its directory is not usable: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._head.exists() and not self.path.exists():
                raise LedgerBroken(self.path, "the database is gone, but its .head file says that there was one")
            with closing(self._connect()) as database:
                database.execute("BEGIN EXCLUSIVE")
                database.execute(SCHEMA)
                yield database
                database.execute("COMMIT")
                self._write_head(database)
        except sqlite3.Error as error:
            raise LedgerBroken(self.path, f"SQLite says: {error}") from error
        except OSError as error:
            raise LedgerBroken(self.path, f"it cannot be written: {error}") from error
        finally:
            os.close(descriptor)

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA synchronous = EXTRA")  # also fsyncs the directory when the rollback journal goes
        return database

    def _verified(self, database: sqlite3.Connection) -> list[Charge]:
        charges: list[Charge] = []
        hashes = [GENESIS]
        for place, (seq, body, claimed) in enumerate(
            database.execute("SELECT seq, body, hash FROM charges ORDER BY seq"), start=1
        ):
            if seq != place:
                raise LedgerBroken(self.path, f"charge {place} is missing")
            if link(hashes[-1], seq, body) != claimed:
                raise LedgerBroken(self.path, f"charge {seq} was changed")
            hashes.append(claimed)
            try:
                charges.append(Charge(**json.loads(body)))
            except (ValueError, TypeError) as error:
                raise LedgerBroken(self.path, f"charge {seq} cannot be read") from error
        seq, head = self._read_head()
        if seq >= len(hashes) or hashes[seq] != head:
            raise LedgerBroken(
                self.path, f"it ends at charge {len(charges)}, but charge {seq} was written: it was rolled back or replaced"
            )
        return charges

    def _append(self, database: sqlite3.Connection, charge: Charge) -> None:
        seq, previous = database.execute("SELECT seq, hash FROM charges ORDER BY seq DESC LIMIT 1").fetchone() or (0, GENESIS)
        body = json.dumps(asdict(charge), sort_keys=True, allow_nan=False)
        database.execute("INSERT INTO charges VALUES (?, ?, ?)", (seq + 1, body, link(previous, seq + 1, body)))

    def _read_head(self) -> tuple[int, str]:
        try:
            seq, _, head = self._head.read_text().strip().partition(" ")
            return int(seq), head
        except FileNotFoundError:
            return 0, GENESIS
        except ValueError as error:
            raise LedgerBroken(self.path, "its .head file cannot be read") from error

    def _write_head(self, database: sqlite3.Connection) -> None:
        """Atomically; the file is replaced only after its content is on the disk."""
        newest = database.execute("SELECT seq, hash FROM charges ORDER BY seq DESC LIMIT 1").fetchone()
        if newest is None or newest == self._read_head():
            return
        draft = self._head.with_name(self._head.name + ".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:  # noqa: PTH123  # a descriptor, for its mode
            file.write(f"{newest[0]} {newest[1]}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._head)
        directory = os.open(self._head.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def question(plan: PrivacyPlan) -> str:
    """What sigma was solved from, as the ledger remembers it."""
    return plan_question(plan.terms.epsilon_per_run, plan.terms.delta, plan.terms.rounds, plan.sampling_rate, plan.steps)


def plan_question(epsilon_per_run: float, delta: float, rounds: int, sampling_rate: float, steps: int) -> str:
    """See `question`; exact, since sigma is only right for exactly these."""
    return f"{epsilon_per_run!r} {delta!r} {rounds} {sampling_rate!r} {steps}"


def link(previous: str, seq: int, body: str) -> str:
    """The hash of a row: it covers the row before it, its place and its content."""
    return hashlib.sha256(f"{previous}\n{seq}\n{body}".encode()).hexdigest()
