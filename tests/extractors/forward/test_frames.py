from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel

from extractors import ExtractConfig, extract, find_model
from extractors.audio.policy import AudioPolicy
from extractors.forward.unit_result import frame_bound, plan_frames
from extractors.run.extraction import extract_all
from featurestore import open_store
from featurestore.backends.storage import LocalStorage, open_storage
from featurestore.errors import ConfigError, CorruptData
from featurestore.store.key import find_keys, read_key
from featurestore.store.layer import Layer
from featurestore.upkeep.verification import verify_key
from tests.conftest import write_clips
from tests.models import save_ssl, save_whisper

LENGTHS = (16001, 5000, 9001, 31999, 5000, 9000, 1200)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Path]:
    """Folder of a tiny model, and a store with float32 frames of `LENGTHS` and one failed clip."""
    folder = save_ssl(tmp_path / "tiny", "hubert", "base")
    manifest = write_clips(tmp_path / "audio", LENGTHS)
    soundfile.write(tmp_path / "audio" / "zeros.wav", np.zeros(7000, np.float32), 16_000)
    table = pd.read_csv(manifest)
    zeros = pd.DataFrame({"path": ["zeros.wav"], "kind": ["a"], "caller": ["c0"]})
    pd.concat([table, zeros]).to_csv(manifest, index=False)
    extract(config(tmp_path, frames_dtype="float32"))
    return folder, tmp_path / "store"


def config(tmp_path: Path, **changes: object) -> ExtractConfig:
    options: dict[str, object] = {
        "manifest": tmp_path / "audio" / "manifest.csv",
        "dataset": "d",
        "model": str(tmp_path / "tiny"),
        "store": str(tmp_path / "store"),
        "unit_rows": 3,
        "frames": True,
        "batch_seconds": 3.0,
    }
    return ExtractConfig(**(options | changes))  # type: ignore[arg-type]


def layer_of(store: Path, k: int) -> Layer:
    return open_store(store).features("tiny", "d").layer(k)


def test_frames_equal_batch_one_for_every_clip(stored: tuple[Path, Path], tmp_path: Path) -> None:
    folder, store = stored
    features = open_store(store).features("tiny", "d")
    reference = AutoModel.from_pretrained(folder).eval()
    for position, (utterance, status) in enumerate(
        features.index[["utterance_id", "status"]].itertuples(index=False)
    ):
        if status != "ok":
            assert features.layer(1).frames(position).shape == (0, 24)
            continue
        signal, _ = soundfile.read(tmp_path / "audio" / f"{utterance}.wav", dtype="float32")
        signal = np.resize(signal, max(5000, len(signal)))
        with torch.no_grad():
            states = reference(torch.from_numpy(signal)[None], output_hidden_states=True).hidden_states
        for k, expected in enumerate(states):
            frames = features.layer(k).frames(position)
            assert frames.shape == tuple(expected[0].shape)
            assert len(frames) == features.index["n_frames"][position]
            assert np.abs(frames - expected[0].numpy()).max() < 1e-5 * float(expected.abs().max())
        # The functionals beside them are those of the frames.
        np.testing.assert_allclose(
            features.layer(2).numpy([position])[0, 0], features.layer(2).frames(position).mean(0), atol=1e-5
        )


def test_the_dask_view_holds_all_frames_in_the_order_of_the_index(stored: tuple[Path, Path]) -> None:
    layer = layer_of(stored[1], 3)
    lazy, offsets = layer.frames_dask()
    values = lazy.compute(scheduler="sync")
    assert len(offsets) == len(layer.rows) + 1
    assert lazy.shape == values.shape == (offsets[-1], 24)
    for i in range(len(layer.rows)):
        np.testing.assert_array_equal(values[offsets[i] : offsets[i + 1]], layer.frames(i))


def test_frames_are_those_of_the_one_row_asked_for(stored: tuple[Path, Path]) -> None:
    layer = layer_of(stored[1], 2)
    n = len(layer.rows)
    each = [layer.frames(i) for i in range(n)]
    for i in range(n):
        np.testing.assert_array_equal(layer.frames(i - n), each[i])
    for position in (n, -n - 1, 100, -100):
        with pytest.raises(IndexError, match=f"position {position} is out of range, there are {n} rows"):
            layer.frames(position)
    for odd in (True, 1.0, "1", np.arange(n) == 1):
        with pytest.raises(IndexError, match=f"expected one position of {n} rows"):
            layer.frames(odd)  # type: ignore[arg-type]
    # Neighbours come in the order asked for; what is no slice is not guessed at.
    np.testing.assert_array_equal(layer.frames_of(slice(3, 0, -1)), np.concatenate(each[3:0:-1]))
    np.testing.assert_array_equal(layer.frames_of(slice(0, n, 2)), np.concatenate(each[::2]))
    with pytest.raises(TypeError, match=f"expected a slice of {n} rows, got ndarray"):
        layer.frames_of(np.arange(n) == 1)  # type: ignore[arg-type]


def test_selections_of_rows_have_their_frames(stored: tuple[Path, Path]) -> None:
    features = open_store(stored[1]).features("tiny", "d")
    some = features.select(labels={"kind": "b"}, ok_only=True)
    lazy, offsets = some.layer(1).frames_dask()
    values = lazy.compute(scheduler="sync")
    for i, row in enumerate(some.index["utterance_id"]):
        position = features.index["utterance_id"].tolist().index(row)
        np.testing.assert_array_equal(values[offsets[i] : offsets[i + 1]], features.layer(1).frames(position))


def test_float16_is_the_default_and_plain_zarr_reads_it(tmp_path: Path) -> None:
    import zarr

    save_ssl(tmp_path / "tiny", "hubert", "base")
    write_clips(tmp_path / "audio", LENGTHS)
    extract(config(tmp_path))
    key = zarr.open(tmp_path / "store", mode="r")["tiny/d"]
    assert key["frames_02"].dtype == np.float16
    start, count = int(key["frame_start"][4]), int(key["n_frames"][4])
    plain = key["frames_02"][start : start + count].astype(np.float32)
    np.testing.assert_array_equal(plain, layer_of(tmp_path / "store", 2).frames(4))


def test_damage_to_frames_is_found_and_mended(stored: tuple[Path, Path], tmp_path: Path) -> None:
    store = LocalStorage(stored[1])
    name = "tiny/d/frames_01/c/1/0"
    whole = store.get(name)
    assert whole is not None
    damaged = bytearray(whole)
    damaged[100] ^= 4
    store.put(name, bytes(damaged))
    with pytest.raises(CorruptData, match="frames_01"):
        layer_of(stored[1], 1).frames(3)
    store.delete(name)
    with pytest.raises(CorruptData, match="no values for rows"):
        layer_of(stored[1], 1).frames(3)
    found = verify_key(store, "tiny", "d", repair=True)
    assert [f.object for f in found.findings if f.is_damage] == [name]
    summary = extract(config(tmp_path, frames_dtype="float32"))
    assert summary.n_embedded == 3
    assert verify_key(store, "tiny", "d").findings == []
    assert store.get(name) == whole


def test_without_frames_one_line_says_how_to_get_them(tmp_path: Path) -> None:
    save_ssl(tmp_path / "tiny", "hubert", "base")
    write_clips(tmp_path / "audio", LENGTHS)
    extract(config(tmp_path, frames=False))
    with pytest.raises(ConfigError, match="holds no frames; extract with --frames"):
        layer_of(tmp_path / "store", 1).frames(0)
    with pytest.raises(ConfigError, match="made without --frames"):
        extract(config(tmp_path))


def test_growth_by_clips_that_fit_and_by_clips_that_do_not(stored: tuple[Path, Path], tmp_path: Path) -> None:
    table = pd.read_csv(tmp_path / "audio" / "manifest.csv")
    write_clips(tmp_path / "audio" / "more", [8000, 12_000], seed=5)
    more = pd.DataFrame({"path": ["more/clip000.wav", "more/clip001.wav"], "kind": "a", "caller": "c0"})
    pd.concat([table, more]).to_csv(tmp_path / "audio" / "manifest.csv", index=False)
    before = layer_of(stored[1], 1).frames(2)
    extract(config(tmp_path, frames_dtype="float32"))
    layer = layer_of(stored[1], 1)
    np.testing.assert_array_equal(layer.frames(2), before)
    assert [len(layer.frames(i)) for i in (8, 9)] == [37, 24]
    write_clips(tmp_path / "audio" / "long", [2_000_000], seed=6)
    longer = pd.DataFrame({"path": ["long/clip000.wav"], "kind": "a", "caller": "c0"})
    pd.concat([table, more, longer]).to_csv(tmp_path / "audio" / "manifest.csv", index=False)
    with pytest.raises(ConfigError, match=r"new clips need up to .*longer than those it was planned for"):
        extract(config(tmp_path, frames_dtype="float32"))


def test_room_is_counted_in_units_of_the_key_whatever_this_run_asks(
    stored: tuple[Path, Path], tmp_path: Path
) -> None:
    """One more clip that nearly fills a unit fits; two of them do not, as the key has 3 rows a unit."""
    manifest = tmp_path / "audio" / "manifest.csv"
    table = pd.read_csv(manifest)
    info = read_key(open_storage(stored[1]), "tiny", "d")
    assert info.frames is not None
    assert info.shape.unit_rows == 3
    n_frames = int(0.95 * info.frames.unit_frames)
    write_clips(tmp_path / "audio" / "long", [n_frames * 320 + 80] * 2, seed=7)
    paths = ["long/clip000.wav", "long/clip001.wav"]
    longer = pd.DataFrame({"path": paths, "kind": "a", "caller": "c0"})
    before = sorted(p for p in stored[1].rglob("*") if p.is_file())
    pd.concat([table, longer]).to_csv(manifest, index=False)
    with pytest.raises(ConfigError, match="longer than those it was planned for"):
        extract(config(tmp_path, frames_dtype="float32", unit_rows=1))
    assert sorted(p for p in stored[1].rglob("*") if p.is_file()) == before
    pd.concat([table, longer[:1]]).to_csv(manifest, index=False)
    extract(config(tmp_path, frames_dtype="float32", unit_rows=64))
    assert len(layer_of(stored[1], 1).frames(len(table))) == n_frames


def test_frames_that_a_later_model_cannot_take_change_no_key(tmp_path: Path) -> None:
    save_ssl(tmp_path / "tiny", "hubert", "base")
    save_ssl(tmp_path / "other", "hubert", "base", seed=1)
    write_clips(tmp_path / "audio", LENGTHS)
    extract(config(tmp_path, frames=False))
    first = dataclasses.replace(config(tmp_path), model=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="made without --frames"):
        extract_all([first, config(tmp_path)])
    assert [k.model for k in find_keys(open_storage(tmp_path / "store"))[0]] == ["tiny"]


@given(st.integers(1, 700_000), st.sampled_from([8000, 16_000, 22_050, 44_100]))
def test_the_bound_holds_whatever_the_length_and_rate(n: int, rate: int) -> None:
    policy = AudioPolicy(sample_rate_hz=16_000, normalisation="none")
    for source, extractor in _models():
        resampled = max(5000, round(n * 16_000 / rate))
        longest = source.max_samples or resampled
        windows = [min(longest, resampled - i) for i in range(0, resampled, longest)]
        assert frame_bound(n / rate, source, policy) >= sum(extractor.n_frames(w) for w in windows)


_MODELS: list[tuple[object, object]] = []


def _models() -> list:  # type: ignore[type-arg]
    if not _MODELS:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            for spec in (
                "logmel",
                str(save_ssl(Path(folder) / "h", "hubert", "base")),
                str(save_whisper(Path(folder) / "w")),
            ):
                source = find_model(spec)
                _MODELS.append((source.card, source.load("cpu", "fp32")))
    return _MODELS


def test_units_shrink_so_that_their_frames_fit_memory() -> None:
    card = find_model("logmel").card
    policy = AudioPolicy(sample_rate_hz=16_000, normalisation="none")
    rows, shape, bounds = plan_frames(
        [600.0] * 3000, card, policy, n_layers=1, unit_rows=None, dtype="float16"
    )
    assert rows == 64
    assert shape.unit_frames >= 64 * 60_000
    assert bounds.shape == (3000,)
    assert shape.unit_frames % shape.chunk_frames == 0
    rows, _, _ = plan_frames([0.4] * 3000, card, policy, n_layers=1, unit_rows=None, dtype="float16")
    assert rows == 1024
