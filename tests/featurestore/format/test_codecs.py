"""Codecs of layer values: what each keeps, what plain Zarr reads of it, and what is refused."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featurestore.errors import ConfigError, DependencyMissing
from featurestore.format import layer_arrays
from featurestore.format.codecs import check_codec, codec_told, rounded, unpack_pcodec

CODECS = ("fast", "small", "raw", "pcodec", "bitround3", "bitround9")
TINY, HUGE = 2.0**-90, 2.0**90
NUMBERS = st.floats(TINY, HUGE, width=32) | st.floats(-HUGE, -TINY, width=32) | st.just(0.0)


def shape_of(codec: str, dtype: str = "float32") -> layer_arrays.LayerShape:
    return layer_arrays.LayerShape(
        n_functionals=2,
        n_features=6,
        unit_rows=12,
        chunk_rows=4,
        codec=codec,
        dtype=dtype,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("codec", CODECS)
def test_plain_zarr_reads_the_same_values(tmp_path: Path, codec: str, dtype: str) -> None:
    shape = shape_of(codec, dtype)
    values = np.random.default_rng(0).standard_normal((10, 2, 6)).astype(np.float32)
    values[3] = np.nan
    data = layer_arrays.encode_layer(shape, values)
    (tmp_path / "c/0/0").mkdir(parents=True)
    (tmp_path / "zarr.json").write_bytes(layer_arrays.layer_document(shape, 10))
    (tmp_path / "c/0/0/0").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr says of numcodecs' that its standard does not have them
        plain = zarr.open_array(tmp_path, mode="r")[:]
    expected = rounded(values.astype(dtype), codec)
    np.testing.assert_array_equal(plain, expected)
    np.testing.assert_array_equal(layer_arrays.decode_layer(shape, data)[:10], expected)
    told = json.loads((tmp_path / "zarr.json").read_bytes())["codecs"][0]
    assert codec == "raw" or codec_told(told["configuration"]["codecs"]) == codec


@settings(max_examples=60, deadline=None)
@given(values=hnp.arrays(np.float32, 20, elements=NUMBERS), bits=st.integers(1, 22))
def test_rounding_is_to_the_nearest_number_of_so_many_bits(values: np.ndarray, bits: int) -> None:
    fraction, exponent = np.frexp(values.astype(np.float64))  # fraction in [0.5, 1): its first bit is implied
    nearest = np.ldexp(np.round(fraction * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent)
    np.testing.assert_array_equal(rounded(values, f"bitround{bits}"), nearest.astype(np.float32))


def test_what_is_no_number_stays_what_it_is() -> None:
    bits = [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7F800000, 0xFF800000]
    kept = rounded(np.array(bits, dtype=np.uint32).view(np.float32), "bitround5")
    assert np.isnan(kept[:3]).all()
    assert kept[3:].tolist() == [np.inf, -np.inf]
    with pytest.raises(ConfigError, match="rounded up to infinity"):
        rounded(np.array([np.finfo(np.float32).max]), "bitround5")


def test_what_is_stored_is_rounded_once() -> None:
    shape = shape_of("bitround4")
    values = np.random.default_rng(1).standard_normal((12, 2, 6)).astype(np.float32)
    once = layer_arrays.decode_layer(shape, layer_arrays.encode_layer(shape, values))
    np.testing.assert_array_equal(
        layer_arrays.decode_layer(shape, layer_arrays.encode_layer(shape, once)), once
    )
    assert 0 < np.abs(once / values - 1).max() <= 2**-5


@pytest.mark.parametrize(
    ("codec", "dtype", "said"),
    [
        ("zip", "float32", "expected fast, small, raw, pcodec, or bitround with mantissa bits"),
        ("bitround", "float32", "got 'bitround'"),
        ("bitround0", "float32", "got 'bitround0'"),
        ("bitround٣", "float32", "expected fast"),
        ("bitround23", "float32", "float32 has 23 mantissa bits, so 1 to 22 can be kept"),
        ("bitround10", "float16", "float16 has 10 mantissa bits, so 1 to 9 can be kept"),
        (7, "float32", "got 7"),
    ],
)
def test_other_codecs_are_refused(codec: object, dtype: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_codec(codec, dtype)


def test_without_pcodec_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = shape_of("pcodec")
    data = layer_arrays.encode_layer(shape, np.ones((3, 2, 6), dtype=np.float32))
    monkeypatch.setitem(sys.modules, "pcodec", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'featurestore-audio\[pcodec\]'"):
        layer_arrays.decode_layer(shape, data)


def test_a_chunk_that_claims_other_sizes_is_refused() -> None:
    from pcodec import ChunkConfig, standalone

    long = standalone.simple_compress(np.zeros(10**6, dtype=np.float32), ChunkConfig())
    assert len(long) < 1000, "a few bytes claim four million"
    for chunk in (long, standalone.simple_compress(np.zeros(7, np.float32), ChunkConfig()), b"", b"pco!" * 9):
        with pytest.raises(ValueError, match="pcodec chunk"):
            unpack_pcodec(chunk, np.empty((4, 2, 6), dtype=np.float32))
    with pytest.raises(ValueError, match="pcodec chunk"):
        unpack_pcodec(standalone.simple_compress(np.zeros(48), ChunkConfig()), np.empty(48, dtype=np.float32))
