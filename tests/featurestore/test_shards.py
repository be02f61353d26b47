"""The shards put together here are the bytes that Zarr writes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import layout, shards
from featurestore.errors import ConfigError


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_bytes_equal_those_of_zarr(data: st.DataObject) -> None:
    chunk_rows, n_chunks = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    unit_rows = chunk_rows * n_chunks
    n = data.draw(st.integers(1, unit_rows))
    shape = layout.LayerShape(
        n_functionals=data.draw(st.integers(1, 3)),
        n_features=data.draw(st.integers(1, 9)),
        unit_rows=unit_rows,
        chunk_rows=chunk_rows,
        dtype=data.draw(st.sampled_from(["float32", "float16"])),
        codec=data.draw(st.sampled_from(["fast", "small", "raw"])),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.standard_normal((n, shape.n_functionals, shape.n_features)).astype(np.float32)
    values[rng.random(n) < 0.3] = np.nan
    assert shards.encode(shape, values) == layout.encode_layer(shape, values)
    back = layout.decode_layer(shape, shards.encode(shape, values))[:n]
    np.testing.assert_array_equal(back, values.astype(shape.dtype))


def test_values_need_not_be_contiguous_or_float32() -> None:
    shape = layout.LayerShape(n_functionals=2, n_features=4, unit_rows=6)
    values = np.random.default_rng(0).standard_normal((4, 2, 12))[:, :, ::3]
    assert shards.encode(shape, values) == layout.encode_layer(shape, values)


@pytest.mark.parametrize("codec", ["fast", "raw"])
def test_overflow_and_wrong_shapes_are_refused(codec: layout.CodecName) -> None:
    shape = layout.LayerShape(n_functionals=1, n_features=4, unit_rows=6, dtype="float16", codec=codec)
    with pytest.raises(ConfigError, match="65504"):
        shards.encode(shape, np.full((2, 1, 4), 1e6, dtype=np.float32))
    with pytest.raises(ValueError, match="at most 6 rows"):
        shards.encode(shape, np.zeros((7, 1, 4), dtype=np.float32))
