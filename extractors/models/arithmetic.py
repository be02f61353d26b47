"""How a forward pass multiplies: switches of the whole process, set around it and put back after it.

PyTorch rounds float32 products to TF32 (or to bfloat16 on some CPUs) where a switch of the process says so.
A worker outlives the jobs that it does, and foreign code turns the switches too, so what was set when a model
was loaded says nothing about its forward pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from extractors.models.interface import Precision

if TYPE_CHECKING:
    import torch

AUTOCAST_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def products_in(precision: Precision) -> AbstractContextManager[None]:
    """Allow TF32 products in ``tf32`` and forbid them in every other precision; put back what was set.

    Threads of one precision go through together, those of another wait for their turn.
    """
    return _SWITCH.held(precision == "tf32")


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """`products_in`, and ``bf16`` and ``fp16`` under autocast."""
    import torch

    name = AUTOCAST_DTYPES.get(precision)
    dtype = None if name is None else getattr(torch, name)
    # Turned off in the other precisions, where the caller's own may be on.
    with products_in(precision), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        yield


class _Switch:
    """The process's switches, held by any number of forward passes that want the same."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_inside = 0
        self._tf32 = False
        self._put_back: list[Callable[[], None]] = []

    @contextmanager
    def held(self, tf32: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._n_inside or self._tf32 == tf32)
            if not self._n_inside:
                self._tf32, self._put_back = tf32, _remembered()
            self._n_inside += 1
            _set(tf32)
        try:
            yield
        finally:
            with self._changed:
                self._n_inside -= 1
                if not self._n_inside:
                    for put_back in self._put_back:
                        put_back()
                    self._changed.notify_all()


_SWITCH = _Switch()


def _set(tf32: bool) -> None:
    import torch

    # PyTorch refuses to read one interface after the other was written: both are written, the old one first.
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    for name, backend in _backends():
        # By name and not by "none", which would take on what is set for all of them. A CPU rounds nothing.
        backend.fp32_precision = "tf32" if tf32 and name != "mkldnn" else "ieee"


def _remembered() -> list[Callable[[], None]]:
    """What puts the switches back as they are now."""
    import torch

    found: list[Callable[[], None]] = []
    # A process that uses the new interface may be refused an answer by the old one; then the new one knows.
    with suppress(RuntimeError):
        found.append(partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
    with suppress(RuntimeError):
        found.append(partial(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32))
    found += [partial(setattr, b, "fp32_precision", b.fp32_precision) for _, b in _backends()]
    return found


def _backends() -> list[tuple[str, Any]]:
    """Library, and what of it has a precision of its own; none before PyTorch 2.9."""
    import torch

    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        return []
    return [
        ("cublas", backends.cuda.matmul),
        ("cudnn", backends.cudnn.conv),
        ("cudnn", backends.cudnn.rnn),
        ("mkldnn", backends.mkldnn.matmul),
        ("mkldnn", backends.mkldnn.conv),
        ("mkldnn", backends.mkldnn.rnn),
    ]
