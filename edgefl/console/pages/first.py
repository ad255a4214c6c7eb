"""The first run: no site yet. Three answers make a commented site.yaml to start from."""

from __future__ import annotations

from asyncio import to_thread
from pathlib import Path
from typing import ClassVar, get_args

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button, Input, Label, RadioButton, RadioSet, Static

from edgefl.console.live import Frame
from edgefl.console.pages.editor import Editor
from edgefl.console.view import View
from edgefl.errors import EdgeflError
from edgefl.operations import draft
from edgefl.site.scaffold import Module, site_name

_MODULES = {
    "lab": "real Debian hosts on this machine, in namespaces (needs root)",
    "static": "hosts that exist: you write their addresses",
    "own": "a Terraform module of yours makes them",
}
MOST_DEVICES = 200


class Choice(RadioButton):
    """A choice that is told by its sign, not by its colour alone."""

    BUTTON_INNER = "○"

    def watch_value(self) -> None:
        """Full when it is chosen."""
        self.BUTTON_INNER = "●" if self.value else "○"  # Textual has one sign for both
        super().watch_value()


class FirstRun(View):
    """Where hosts come from, how many devices, and what the site is called."""

    WHAT = "There is no site.yaml here yet. Tab goes from answer to answer; the file that is written says what everything means."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,down", "app.focus_next", "Next", show=False),
        Binding("shift+tab,up", "app.focus_previous", "Previous", show=False),
    ]

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._modules = RadioSet(
            *(Choice(f"{name}   {what}", value=name == "lab") for name, what in _MODULES.items()), compact=True
        )
        self._called = Input(site_name(directory), id="name", compact=True)
        self._devices = Input("4", id="devices", type="integer", compact=True)
        self._problem = Static("", id="problem", markup=False)

    @property
    def title(self) -> str:
        """What begins here."""
        return "a new site"

    def compose(self) -> ComposeResult:
        """The questions, the answer, and what is wrong with it."""
        with VerticalScroll(can_focus=False):
            yield Static(
                f"There is no site.yaml in {self._directory.absolute()} yet. Where do its hosts come from?", markup=False
            )
            yield self._modules
            with Horizontal():
                yield Label("Name      ")
                yield self._called
            with Horizontal():
                yield Label("Devices   ")
                yield self._devices
            yield Button("Write site.yaml", id="write", compact=True, variant="primary")
            yield self._problem

    def take_focus(self) -> None:
        """The first question has the keyboard."""
        self._modules.focus()

    def show(self, frame: Frame) -> None:
        """Nothing here comes from the federation."""

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        if message.input is self._devices:  # the last answer
            self._answered()
        else:
            self.screen.focus_next()

    @on(Button.Pressed)
    def _answered(self) -> None:
        said = self._devices.value
        if not said.isdigit() or not 1 <= int(said) <= MOST_DEVICES:
            self._problem.update(f"✖ devices: a number from 1 to {MOST_DEVICES}")
            return
        module: Module = get_args(Module)[max(0, self._modules.pressed_index)]
        self._write(module, int(said), self._called.value.strip())

    @work(group="file", exclusive=True)
    async def _write(self, module: Module, devices: int, name: str) -> None:
        try:
            await to_thread(draft.begin, self._directory, module=module, devices=devices, name=name or None)
        except EdgeflError as error:
            self._problem.update("\n".join(error.lines()))
        else:
            self.post_message(self.Open(Editor(self._directory), instead=True))
