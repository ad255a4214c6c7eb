"""What a site's modes demand of the task's model, looked at before anything is deployed: the model is made for it.

Reading the task's source finds what is written there; a model that a library makes is known by its modules alone.
"""

from __future__ import annotations

from pydantic import BaseModel

from edgefl.errors import Where
from edgefl.federation.local import make_model, shared_arrays
from edgefl.federation.outline import Parameters, TaskInvalid
from edgefl.federation.task import Task
from edgefl.site.modes import MOST_VALUES, too_large


class Demands(BaseModel):
    """The site's modes, as far as a model can fail them. private: trained with DP-SGD. encrypted: summed homomorphically."""

    parameters: dict[str, bool | int | float | str]
    personal_layers: list[str] = []
    private: bool = False
    encrypted: bool = False


def check_model(task: Task, demands: Demands) -> None:
    """Raise TaskInvalid where the task's model cannot be made, or is none that the site's modes can train."""
    parameters: Parameters = task.settle(demands.parameters)
    model = make_model(task, parameters)
    values = sum(array.size for array in shared_arrays(task, model, demands.personal_layers).values())
    where = (Where(task.outline.path, task.outline.functions["model"]),)
    if demands.encrypted and values > MOST_VALUES:
        what, hint = too_large(values)
        raise TaskInvalid(f"task {task.ref}: {what}", hint=hint, where=where)
    if demands.private:
        from edgefl.federation.privacy.dpsgd import check_private  # Opacus: only where it is used
        from edgefl.federation.privacy.plan import PrivacyRefused

        try:
            check_private(model)
        except PrivacyRefused as refused:
            raise TaskInvalid(
                f"task {task.ref}: {refused.what}", hint=f"{refused.hint}, or privacy.mode: none", where=where
            ) from refused
