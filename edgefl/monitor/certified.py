"""Every key that was ever certified, by the journal: none of them is certified again."""

from __future__ import annotations

from edgefl.events.journal import Journal

_PAGE = 500


class Certified:
    """SHA-256 of each key, in hex. `learn` takes note of what was certified since the last time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._seen = 0
        self.keys: set[str] = set()

    def learn(self) -> None:
        """Read what is new, the newest first; of what was read before, no more than a page."""
        before, newest = 0, self._seen
        while page := self._journal.newest(["certificate_issued"], before=before, size=_PAGE):
            for record in page:
                newest = max(newest, int(record["seq"]))
                if record["seq"] > self._seen and (key := record["body"].get("key_sha256")):
                    self.keys.add(key)
            before = int(page[-1]["seq"])
            if before <= self._seen:
                break
        self._seen = newest
