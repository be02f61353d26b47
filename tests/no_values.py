"""PyTorch's meta device in a GPU's place: it knows shapes and has no values, so nothing can wait for one.

What needs a value on the host (`.item()`, `nonzero`, `if tensor`, `.cpu()`) is refused by the device itself.
What mixes it with tensors of the host is refused here, as a GPU would.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
# What brings values to a device.
SENDS = ("_to_copy", "copy_")


class Watch(TorchDispatchMode):
    """Counts what is asked of the device, what is sent there, and what the host does with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0
        self.n_sent = 0
        self.n_host_calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        given = [t for t in tree_leaves([args, kwargs]) if isinstance(t, torch.Tensor)]
        # A number is a tensor without dimensions, which a GPU takes from the host.
        devices = {t.device.type for t in given if t.dim() or t.device.type == "meta"}
        out = func(*args, **(kwargs or {}))
        if name in SENDS:
            self.n_sent += devices == {"cpu"} and out.device.type == "meta"
        elif devices == {"cpu", "meta"}:
            raise AssertionError(f"{name}: tensors of the host and of the device together")
        self.n_calls += "meta" in devices
        made = {t.device.type for t in tree_leaves(out) if isinstance(t, torch.Tensor) and t.dim()}
        self.n_host_calls += devices | made == {"cpu"}
        return out
