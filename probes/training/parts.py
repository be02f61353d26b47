"""The parts of a split, standardised by their training rows: vectors or frames, in memory or in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from featurestore.arrays import IntArray
from probes.training.frames import FrameRows, StreamedFrames, standardise_frames, standardised_frames
from probes.training.standardise import Standardiser
from probes.training.vectors import StreamedRows, standardised


def standardised_parts(parts: Mapping[str, Any]) -> tuple[dict[str, Any], Standardiser]:
    """Train, val and test standardised by train: where they lie, or as they are read.

    Args:
        parts: Matrices `[n, d]` float32, `FrameRows`, or what streams either.
    """
    train = parts["train"]
    if isinstance(train, StreamedRows):
        return standardised(dict(parts))
    if isinstance(train, StreamedFrames):
        return standardised_frames(dict(parts))
    if isinstance(train, FrameRows):
        return dict(parts), standardise_frames(parts)
    fitted = Standardiser.fit(train)
    for part in parts.values():
        fitted.inplace(part)
    return dict(parts), fitted


def on_rows(parts: Mapping[str, Any], rows: IntArray) -> dict[str, Any]:
    """The parts with the given training rows only, as a copy: standardising it leaves the parts as they are.

    Args:
        parts: As of `standardised_parts`, not standardised.
        rows: Positions in train `[n]`.
    """
    train = parts["train"]
    if isinstance(train, FrameRows):  # the parts share one array of frames
        values = train.values.copy()
        parts = {name: replace(part, values=values) for name, part in parts.items()}
        return {**parts, "train": parts["train"][rows]}
    if isinstance(train, StreamedRows | StreamedFrames):
        return {**parts, "train": train[rows]}
    return {name: part[rows] if name == "train" else part.copy() for name, part in parts.items()}
