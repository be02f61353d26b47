"""Extractors as another package would register them, with the limits of real devices and real bugs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extractors.models.interface import Extractor, ModelCard, OnLayer, Precision
from extractors.models.logmel_mfcc import LogMelSource


def register(folder: Path, monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    """An installed package that registers extractors, as pip would leave it."""
    info = folder / "lab_extractors-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-extractors\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in names.items()]
    (info / "entry_points.txt").write_text("\n".join(["[featurestore.extractors]", *lines]))
    monkeypatch.syspath_prepend(str(folder))
    # For processes that are started from here.
    path = os.pathsep.join([str(folder), *(p for p in sys.path if p)])
    monkeypatch.setenv("PYTHONPATH", path)


class _Wrapped:
    """Log-mel, with something of its own around the forward pass."""

    def __init__(self, argument: str | None) -> None:
        self._source = LogMelSource(None)
        self._argument = argument or "0"
        self.card: ModelCard = self._source.card

    def fingerprint(self) -> Mapping[str, Any]:
        return {**self._source.fingerprint(), "wrapped": type(self).__name__}

    def load(self, device: str, precision: Precision) -> Extractor:
        return self.wrap(self._source.load(device, precision))

    def wrap(self, inner: Extractor) -> Extractor:
        raise NotImplementedError


class _Around:
    def __init__(self, inner: Extractor) -> None:
        self.inner = inner
        self.card = inner.card
        self.n_frames = inner.n_frames


class SmallMemory(_Wrapped):
    """Runs out of memory above so many padded samples: ``name:N``."""

    def wrap(self, inner: Extractor) -> Extractor:
        most = int(self._argument)

        class Limited(_Around):
            def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
                if len(clips) * max(len(c) for c in clips) > most:
                    # What a real allocator says: 8 PiB are nowhere to be had.
                    torch.empty(2**50, dtype=torch.float64)
                self.inner.forward(clips, layers, on_layer)

        return Limited(inner)


class Careless(_Wrapped):
    """Lets clips of a batch see each other's loudness, as batch statistics would."""

    def wrap(self, inner: Extractor) -> Extractor:
        class Seeing(_Around):
            def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
                seen = float(np.mean([np.abs(c).mean() for c in clips]))

                def shifted(layer: int, frames: torch.Tensor, n_valid: Sequence[int]) -> None:
                    on_layer(layer, frames + seen, n_valid)

                self.inner.forward(clips, layers, shifted)

        return Seeing(inner)


class Broken(_Wrapped):
    """Fails for a reason of its own."""

    def wrap(self, inner: Extractor) -> Extractor:
        class Failing(_Around):
            def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
                torch.ones(2, 3) @ torch.ones(2, 3)

        return Failing(inner)


class Slow(_Wrapped):
    """Takes its time over every batch, so that it can be killed in the middle."""

    def wrap(self, inner: Extractor) -> Extractor:
        class Sleeping(_Around):
            def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
                time.sleep(0.2)
                self.inner.forward(clips, layers, on_layer)

        return Sleeping(inner)


class Asked(_Wrapped):
    """Notes how float32 products are rounded while clips go through."""

    seen: list[tuple[bool, bool, str]] = []  # noqa: RUF012  (of the process, as the switches are)

    def wrap(self, inner: Extractor) -> Extractor:
        class Noting(_Around):
            def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
                matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
                Asked.seen.append((matmul, cudnn, torch.get_float32_matmul_precision()))
                self.inner.forward(clips, layers, on_layer)
                # What a module of somebody else may do with the process.
                torch.set_float32_matmul_precision("medium")

        return Noting(inner)
