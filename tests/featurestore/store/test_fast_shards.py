"""The shards put together here are the bytes that Zarr writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import open_store
from featurestore.backends.storage import LocalStorage, MemoryStorage, Storage
from featurestore.errors import ConfigError, CorruptData
from featurestore.format import layer_arrays
from featurestore.format.codecs import rounded
from featurestore.store import fast_shards
from featurestore.store.fast_shards import describe_pieces, describe_shard
from featurestore.store.ledger import Record, read_ledger, write_sealed
from featurestore.store.writer import open_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore.scenario import (
    LAYERS,
    fill,
    manifest_of,
    read_everything,
    request,
    values_of,
    write,
)


@given(data=st.data())
def test_bytes_equal_those_of_zarr(data: st.DataObject) -> None:
    chunk_rows, n_chunks = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    unit_rows = chunk_rows * n_chunks
    n = data.draw(st.integers(1, unit_rows))
    shape = layer_arrays.LayerShape(
        n_functionals=data.draw(st.integers(1, 3)),
        n_features=data.draw(st.integers(1, 9)),
        unit_rows=unit_rows,
        chunk_rows=chunk_rows,
        dtype=data.draw(st.sampled_from(["float32", "float16"])),
        codec=data.draw(st.sampled_from(["fast", "small", "raw", "pcodec", "bitround6"])),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.standard_normal((n, shape.n_functionals, shape.n_features)).astype(np.float32)
    values[rng.random(n) < 0.3] = np.nan
    assert fast_shards.encode(shape, values) == layer_arrays.encode_layer(shape, values)
    back = layer_arrays.decode_layer(shape, fast_shards.encode(shape, values))[:n]
    np.testing.assert_array_equal(back, rounded(values.astype(shape.dtype), shape.codec))


def test_values_need_not_be_contiguous_or_float32() -> None:
    shape = layer_arrays.LayerShape(n_functionals=2, n_features=4, unit_rows=6)
    values = np.random.default_rng(0).standard_normal((4, 2, 12))[:, :, ::3]
    assert fast_shards.encode(shape, values) == layer_arrays.encode_layer(shape, values)


@pytest.mark.parametrize("codec", ["fast", "raw"])
def test_overflow_and_wrong_shapes_are_refused(codec: str) -> None:
    shape = layer_arrays.LayerShape(n_functionals=1, n_features=4, unit_rows=6, dtype="float16", codec=codec)
    with pytest.raises(ConfigError, match="65504"):
        fast_shards.encode(shape, np.full((2, 1, 4), 1e6, dtype=np.float32))
    with pytest.raises(ValueError, match="at most 6 rows"):
        fast_shards.encode(shape, np.zeros((7, 1, 4), dtype=np.float32))


def test_without_the_c_extension_of_crc32c_everything_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pure Python takes bytes only, and is what machines without a wheel have."""
    import google_crc32c
    import google_crc32c.python

    with_c, without = MemoryStorage("with-c"), MemoryStorage("without-c")
    fill(with_c)
    rng = np.random.default_rng(0)
    pieces = [rng.standard_normal((3, 5)).astype(np.float32), np.empty(0, np.float32), rng.bytes(4)]
    arrays = [np.frombuffer(p, np.uint8) if isinstance(p, bytes) else p for p in pieces]
    whole = b"".join(p if isinstance(p, bytes) else p.tobytes() for p in pieces)
    expected = describe_shard(whole, 0)
    assert describe_pieces(arrays) == expected
    for name in ("value", "extend"):
        monkeypatch.setattr(google_crc32c, name, getattr(google_crc32c.python, name))
    assert describe_shard(whole, 0) == expected
    assert describe_pieces(arrays) == expected
    fill(without)
    stored = {k: with_c.get(k) for k, _ in with_c.objects("") if "/ledger" not in k}
    assert {k: without.get(k) for k, _ in without.objects("") if "/ledger" not in k} == stored
    read_everything(with_c.url)
    assert verify_key(with_c, "tiny", "calls").findings == []
    features = open_store(with_c.url).features("tiny", "calls")
    for k in LAYERS:
        np.testing.assert_array_equal(features.layer(k).numpy(), values_of(k))


def test_without_the_c_extension_shards_of_a_folder_are_read_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import google_crc32c
    import google_crc32c.python

    fill(LocalStorage(tmp_path))
    for name in ("value", "extend"):
        monkeypatch.setattr(google_crc32c, name, getattr(google_crc32c.python, name))
    np.testing.assert_array_equal(
        open_store(tmp_path).features("tiny", "calls").layer(1).numpy(), values_of(1)
    )


@pytest.mark.parametrize("codec", ["fast", "small", "raw", "pcodec", "bitround6"])
def test_a_whole_shard_in_anothers_place_is_an_error_and_never_a_number(storage: Storage, codec: str) -> None:
    """Each is sound by itself, and its CRC-32C is that of every other: the chunks' checksums tell."""
    values = {k: values_of(k, 24) for k in LAYERS}
    manifest = manifest_of(24)
    ids = manifest.table["utterance_id"].to_numpy(object)
    write(open_key(storage, request(codec=codec), manifest, ids)[0], values)
    objects = read_ledger(storage, "tiny/calls")[0].objects
    if codec in ("fast", "raw"):  # compressed ones differ in length
        assert len({(o.n_bytes, o.crc32c) for o in objects.values()}) == 1
    assert len({o.sums for o in objects.values()}) == len(objects)
    for here, there in (("layer_01/c/0/0/0", "layer_00/c/0/0/0"), ("layer_03/c/1/0/0", "layer_03/c/0/0/0")):
        sound, other = storage.get(f"tiny/calls/{here}"), storage.get(f"tiny/calls/{there}")
        assert sound is not None
        assert other is not None
        storage.put(f"tiny/calls/{here}", other)
        found = verify_key(storage, "tiny", "calls").findings
        assert [(f.kind, f.object) for f in found] == [("changed", f"tiny/calls/{here}")]
        layer = open_store(storage.url).features("tiny", "calls").layer(int(here[6:8]))
        with pytest.raises(CorruptData, match="checksum of its record"):
            layer.numpy()
        storage.put(f"tiny/calls/{here}", sound)
    assert verify_key(storage, "tiny", "calls").findings == []


def test_records_without_sums_are_read_as_they_were(filled: Storage) -> None:
    records = read_ledger(filled, "tiny/calls")
    old = {
        u: replace(r, objects={n: replace(o, sums="") for n, o in r.objects.items()})
        for u, r in records.items()
    }
    assert all('"sums"' not in r.to_json() and Record.from_json(r.to_json()) == r for r in old.values())
    write_sealed(filled, "tiny/calls", old)
    read_everything(filled.url)
    assert verify_key(filled, "tiny", "calls").findings == []
