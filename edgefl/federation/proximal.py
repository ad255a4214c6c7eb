"""FedProx: a pull towards the global model, so that devices with unlike records do not drift apart (Li et al., 2020,
arXiv:1812.06127).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn, optim


def attract(optimizer: optim.Optimizer, parameters: Iterable[nn.Parameter], mu: float) -> None:
    """Make every step of the optimizer also descend on mu/2 * ||w - w_global||^2, with w_global these parameters' values now.

    The term's gradient, mu * (w - w_global), depends on no record. It is added just before the optimizer steps: under DP-SGD that
    is after the records' gradients were clipped and noised, so it neither uses up the clipping bound nor costs privacy.
    """
    anchors = [(parameter, parameter.detach().clone()) for parameter in parameters]

    def pull(*_: Any) -> None:
        with torch.no_grad():
            for parameter, anchor in anchors:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - anchor, alpha=mu)

    optimizer.register_step_pre_hook(pull)
