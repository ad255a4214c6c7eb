"""What the console does to a federation: it asks once with exactly what will change, and says how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar

from textual import work
from textual.app import App
from textual.binding import Binding, BindingType

from edgefl.console import wards
from edgefl.console.controls import Controls
from edgefl.console.live import Frame, Link
from edgefl.console.provisioning.tree import Mark
from edgefl.console.provisioning.works import Works
from edgefl.console.screens.confirm import Confirm
from edgefl.console.screens.reason import Reason
from edgefl.console.screens.tokens import Tokens
from edgefl.console.wards import Deed, Wish
from edgefl.console.widgets.stage import Stage
from edgefl.errors import EdgeflError
from edgefl.operations.enrol import Token


class Acting(App[None]):
    """The part of the console that acts; its keys are hidden where nothing can be done.

    controls: what it may do; None makes it read-only. works: the site that it may provision; None where it may not.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run", "Run"),
        Binding("x", "stop", "Stop"),
        Binding("Q", "keep('quarantine')", "Quarantine"),
        Binding("R", "keep('release')", "Release"),
        Binding("D", "keep('drain')", "Drain", show=False, tooltip="Drain: they finish their round, and are asked no more"),
        Binding("U", "keep('undrain')", "Undrain", show=False, tooltip="Undrain: rounds ask them again"),
        Binding("c", "keep('rotate')", "Rotate", show=False, tooltip="Rotate: new keys and certificates for the devices"),
        Binding("V", "keep('verify')", "Verify isolation", show=False, tooltip="Verify isolation: probe what the devices reach"),
        Binding("T", "keep('token')", "Token", show=False, tooltip="Token: a device that SSH does not reach comes in, once"),
    ]
    stage: Stage
    """What is on the screen."""

    def __init__(self, controls: Controls | None, works: Works | None) -> None:
        super().__init__()
        self._controls = controls
        self._works = works
        self._could: frozenset[str] = frozenset()

    @property
    def frame(self) -> Frame:
        """What is to be seen now; the console, which follows a feed, knows it."""
        raise NotImplementedError

    def weigh(self, frame: Frame) -> None:
        """Find out what can be done to the federation as this frame shows it."""
        if self._could != (can := self._abilities(frame)):
            self._could = can
            self.refresh_bindings()

    async def action_quit(self) -> None:
        """Leave; what was started here and is at work is ended first, after asking once."""
        works = self._works
        if works is None or not works.is_running:
            self.exit()
            return
        what = (
            "An operation that was started here is still at work. It is stopped as Ctrl-C would, and the same one goes on later."
        )
        self._ask(Confirm("Quit", what, "Stop it and quit"), self._leave, "ended")

    async def _leave(self) -> None:
        if self._works is not None:
            await self._works.end()
        self.exit()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what cannot be done now."""
        if action == "keep":
            return self.stage.top.OF_DEVICES and parameters[0] in self._could
        return action not in {"run", "stop"} or action in self._could

    def _abilities(self, frame: Frame) -> frozenset[str]:
        """What can be done to the federation as the frame shows it; nothing without controls."""
        if self._controls is None or frame.is_paused or frame.link is Link.ABSENT:
            return frozenset()
        run = frame.state.run
        can = {"stop" if run is not None and run.status == "running" else "run"}
        if self._works is not None and not self._works.is_running:
            states = {row.state for row in frame.state.devices.values()}
            can |= {"quarantine", "drain", "rotate", "verify", "token"}
            can |= {deed for deed, state in {"release": "quarantined", "undrain": "drained"}.items() if state in states}
        return frozenset(can)

    def action_run(self) -> None:
        """Ask, then start the site's run."""
        from edgefl.operations.run import resumable  # the operations: only who acts needs them

        if self._controls is not None:
            state = self.frame.state
            what = f"Start the run that {state.site or 'the site'}'s site.yaml describes, on every device that is there."
            if died := resumable(state):
                what += f" {died.capitalize()}: this is a new one, and `edgefl run --resume` goes on with it instead."
            self._ask(Confirm("Start a run", what, "Start"), self._controls.start_run, "the run starts")

    def action_stop(self) -> None:
        """Ask, then stop the run that is going on."""
        run = self.frame.state.run
        if self._controls is not None and run is not None:
            what = (
                f"Stop run {run.id} of {self.frame.state.site}. The model of its last finished round stays; spent ε stays spent."
            )
            stop = partial(self._controls.stop_run, run.id)
            self._ask(Confirm("Stop the run", what, "Stop"), stop, f"run {run.id} is being stopped")

    def action_keep(self, deed: Deed) -> None:
        """Ask, then do to the chosen devices what `deed` says."""
        devices = self.stage.top.devices
        wish = wards.wish(deed, devices, self.frame.state)
        if wish is None:
            self.notify(wards.nothing(deed, devices), severity="warning", markup=False)
            return

        def answered(why: str | bool | None) -> None:
            if why:
                self._keep(wish, str(why))

        question = Reason if wish.needs_reason else Confirm
        self.push_screen(question(wish.title, wish.what, wish.yes), answered)

    @work(group="operation")
    async def _keep(self, wish: Wish, why: str) -> None:
        if self._works is None or self._works.is_running:
            self.notify("another operation is at work here\nnext: wait for it, or C in Provision", severity="error", markup=False)
            return
        given: list[Token] = []
        tree = await self._works.run(wish.deed, wish.operation(why, given))
        if given:
            self.push_screen(Tokens(given))
        if tree.fault is not None:
            self.notify("\n".join(tree.fault.lines).removeprefix("✖ "), severity="error", markup=False)
        elif tree.mark is Mark.DONE and not given:
            self.notify(wish.done, markup=False)

    def _ask(self, question: Confirm, act: Callable[[], Awaitable[object]], done: str) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._do(act, done)

        self.push_screen(question, answered)

    @work(group="actions")
    async def _do(self, act: Callable[[], Awaitable[object]], done: str) -> None:
        try:
            await act()
        except EdgeflError as error:
            next_ = f"\nnext: {error.hint}" if error.hint else ""
            self.notify(error.what + next_, severity="error", markup=False)
        else:
            self.notify(done, markup=False)
