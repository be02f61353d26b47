"""A network in a file: its inputs, and its tensors computed by the runtime that the file is made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

# What the network takes → the tensors asked for, as its file shapes them.
Run = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True)
class NetworkInput:
    """An input: its name, its sizes with None where any size goes, and whether it takes float32."""

    name: str
    sizes: tuple[int | None, ...]
    is_float32: bool


class Network(Protocol):
    """A network that is read and not set up yet."""

    @property
    def inputs(self) -> Sequence[NetworkInput]:
        """What it takes."""

    @property
    def tensors(self) -> Sequence[str]:
        """Names of what it can hand out, in the order in which they are computed."""

    @property
    def weight_files(self) -> Sequence[Path]:
        """Its files, the one that was read first."""

    def runner(self, tensors: Sequence[str]) -> Run:
        """The network up to these tensors, on the CPU and as many threads as PyTorch has.

        Raises:
            ValueError: the runtime cannot take it.
        """


class ReadNetwork(Protocol):
    """What reads a file of a kind."""

    def __call__(self, file: Path) -> Network:
        """The network in a file.

        Raises:
            ValueError: this is no such file, or a damaged one.
            DocumentError: it cannot be read.
        """
