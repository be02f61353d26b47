"""Where networks are trained: devices by name, and rows brought there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from featurestore.arrays import FloatArray
from featurestore.errors import ConfigError


def resolve_device(name: str) -> str:
    """``auto`` → ``cuda`` where there is one, else ``cpu``.

    Raises:
        ConfigError: the device is not on this machine.
    """
    n_found = torch.cuda.device_count()
    if name == "auto":
        return "cuda" if n_found else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cuda" and int(number or 0) >= n_found:
        raise ConfigError(f"--device {name}: {n_found} CUDA devices on this machine; take auto or cpu")
    return name


def on_device(values: FloatArray | Tensor, device: torch.device) -> Tensor:
    """Values on a device; a GPU takes them from pinned memory, and the host does not wait."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
