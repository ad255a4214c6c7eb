"""Where views stand: one at a time, with the pages opened over it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import Container

from edgefl.console.live import Frame
from edgefl.console.sources import Sources
from edgefl.console.view import View


class Stage(Container):
    """Only the view or page on top is displayed and given frames."""

    def __init__(self, views: Sequence[type[View]], opens: str = "") -> None:
        self._views = [view() for view in views]
        self._active = next((place for place, view in enumerate(views) if opens == view.NAME), 0)
        self._pages: list[View] = []
        self._sources: Sources | None = None
        super().__init__(*self._views)

    @property
    def views(self) -> Sequence[View]:
        """Every view, also those that are not on the screen."""
        return self._views

    @property
    def active(self) -> int:
        """The place of the chosen view in the tab bar."""
        return self._active

    @property
    def top(self) -> View:
        """What is on the screen."""
        return self._pages[-1] if self._pages else self._views[self._active]

    @property
    def trail(self) -> tuple[str, ...]:
        """The titles of the open pages, from the view upwards."""
        return tuple(page.title for page in self._pages)

    def on_mount(self) -> None:
        """The first view is on the screen."""
        self._settle()

    def give(self, sources: Sources) -> None:
        """Tell the views, and the pages that will be opened, what they may read beside frames."""
        self._sources = sources
        for view in self._views:
            view.take(sources)

    async def choose(self, index: int, frame: Frame) -> None:
        """Change to a view; pages that lie over the present one are closed."""
        if not 0 <= index < len(self._views):
            return
        while self._pages:
            await self._pages.pop().remove()
        self._active = index
        self.top.begin()
        self._settle(frame)

    async def open(self, page: View, frame: Frame, *, instead: bool = False) -> None:
        """Lay a page over what is on the screen, or in the place of the page on top."""
        if instead and self._pages:
            await self._pages.pop().remove()
        self._pages.append(page)
        if self._sources is not None:
            page.take(self._sources)
        await self.mount(page)
        self._settle(frame)

    async def back(self, frame: Frame) -> None:
        """Close the page on top; the view itself stays."""
        if self._pages:
            await self._pages.pop().remove()
            self._settle(frame)

    def show(self, frame: Frame) -> None:
        """Draw what is on the screen."""
        self.top.show(frame)

    def _settle(self, frame: Frame | None = None) -> None:
        for view in (*self._views, *self._pages):
            view.display = view is self.top
        if frame is not None:
            self.show(frame)
        self.top.take_focus()
