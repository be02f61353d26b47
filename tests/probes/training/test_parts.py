"""Parts of which some training rows are taken: copies that leave the others as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from featurestore import open_store
from probes.training.frames import FrameRows
from probes.training.parts import on_rows, standardised_parts
from probes.training.vectors import StreamedRows

ROWS = np.array([1, 2, 5, 8, 13])


def vectors() -> tuple[dict[str, Any], Callable[[Any], list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    parts = {
        name: (3 * rng.standard_normal((20, 4)) + 2).astype(np.float32) for name in ("train", "val", "test")
    }
    return parts, list


def frames() -> tuple[dict[str, Any], Callable[[Any], list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, 60)
    values = (3 * rng.standard_normal((lengths.sum(), 4)) + 2).astype(np.float32)
    rows = FrameRows(values, np.cumsum(lengths) - lengths, lengths)
    drawn = np.random.default_rng(1).permutation(60).reshape(3, 20)
    parts = {name: rows[where] for name, where in zip(("train", "val", "test"), drawn, strict=True)}
    return parts, lambda part: [part.row(i).copy() for i in range(len(part))]


@pytest.mark.parametrize("make", [vectors, frames])
def test_a_share_is_standardised_by_its_own_rows_in_a_copy(make: Callable[[], Any]) -> None:
    parts, rows_of = make()
    before = {name: [row.copy() for row in rows_of(part)] for name, part in parts.items()}
    for _ in range(2):  # a second share is not standardised twice
        own, _ = standardised_parts(on_rows(parts, ROWS))
        scaler = StandardScaler().fit(np.vstack([before["train"][i] for i in ROWS]))
        for name, part in own.items():
            rows = [before[name][i] for i in ROWS] if name == "train" else before[name]
            assert len(part) == len(rows)
            for found, row in zip(rows_of(part), rows, strict=True):
                np.testing.assert_allclose(
                    np.atleast_2d(found), scaler.transform(np.atleast_2d(row)), atol=1e-5
                )
    for name, part in parts.items():
        for found, row in zip(rows_of(part), before[name], strict=True):
            np.testing.assert_array_equal(found, row)


def test_streamed_rows_of_a_share_are_those_in_memory(store: str, tmp_path: Path) -> None:
    features = open_store(store).features("model-a", "calls")
    ok = np.random.default_rng(0).permutation(np.flatnonzero((features.index["status"] == "ok").to_numpy()))
    layer = features.layer(1)
    parts = {
        name: StreamedRows(sources=(layer,), position=where, block_rows=16)
        for name, where in zip(("train", "val", "test"), np.split(ok[:120], 3), strict=True)
    }
    held = {name: layer.numpy().reshape(len(layer.rows), -1)[part.position] for name, part in parts.items()}
    streamed, _ = standardised_parts(on_rows(parts, ROWS))
    expected, _ = standardised_parts(on_rows(held, ROWS))
    for name, part in streamed.items():
        found = np.empty(expected[name].shape, np.float32)
        for rows, values in part.blocks():
            found[rows] = values
        np.testing.assert_allclose(found, expected[name], atol=1e-4)
