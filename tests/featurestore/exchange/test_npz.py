from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch, StoreError, UserError
from featurestore.exchange import export, import_
from featurestore.manifest.table import from_table, read_manifest, write_manifest
from tests.featurestore.exchange.keys import (
    LAYERS,
    assert_same_rows,
    findings,
    manifest_of,
    manifest_text,
    read_key,
    write_key,
)

N = 23


def load_as_the_authors_do(path: Path) -> dict[int, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {int(k): v for k, v in dict(archive).items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_key(tmp_path / "a")
    return export(tmp_path / "a", tmp_path / "out", format="npz").out / "tiny/calls"


def bring(tmp_path: Path, path: Path, **options: object) -> Path:
    given = {"format": "npz", "model": "m", "dataset": "d", **options}
    import_(path, tmp_path / "b", **given)  # type: ignore[arg-type]
    return tmp_path / "b"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_authors_code_finds_every_utterance_at_its_place(tmp_path: Path, dtype: str) -> None:
    write_key(tmp_path / "a", dtype=dtype)
    summary = export(tmp_path / "a", tmp_path / "out", format="npz")
    assert summary.notes == ("tiny/calls: row i of an entry is layer 0, 1, 3 for i = 0, 1, …",)
    loaded = load_as_the_authors_do(tmp_path / "out/tiny/calls/all_tiny.npz")
    features = read_key(tmp_path / "a")
    assert set(loaded) == set(range(N))
    row_of = {i: row for row, i in enumerate(features.index["utterance_id"])}
    for position, i in enumerate(manifest_of(N).table["utterance_id"]):
        entry = loaded[position]
        assert (entry.dtype, entry.shape) == (np.float32, (len(LAYERS), 12))
        for at, k in enumerate(LAYERS):
            mean, std = features.layer(k).numpy([row_of[i]])[0]
            assert entry[at].tobytes() == np.concatenate([mean, std]).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_key_comes_back_with_its_statuses_by_the_id_map(tmp_path: Path, dtype: str) -> None:
    write_key(tmp_path / "a", dtype=dtype, units=(0, 2))
    summary = export(tmp_path / "a", tmp_path / "out", format="npz")
    assert "8 rows are not committed yet" in summary.notes[0]
    folder = tmp_path / "out/tiny/calls"
    bring(
        tmp_path,
        folder / "all_tiny.npz",
        manifest=folder / "manifest.csv",
        id_map=folder / "index.csv",
        layers=LAYERS,
        dtype=dtype,
        unit_rows=4,
    )
    original, copy = read_key(tmp_path / "a"), read_key(tmp_path / "b", "m", "d")
    assert_same_rows(copy, original)
    pd.testing.assert_frame_equal(manifest_text(copy), manifest_text(original))
    assert copy.functionals == ["mean", "std"]
    assert findings(tmp_path / "b", "m", "d") == []


def test_the_id_map_keeps_ids_byte_for_byte(tmp_path: Path) -> None:
    manifest = manifest_of(4)
    manifest.table["utterance_id"] = ["a\r\nb", '"', " x\n", "007"]
    write_key(tmp_path / "a", n=4, failed=(), manifest=manifest)
    export(tmp_path / "a", tmp_path / "out", format="npz")
    folder = tmp_path / "out/tiny/calls"
    given = {"manifest": manifest, "id_map": folder / "index.csv", "layers": LAYERS}
    bring(tmp_path, folder / "all_tiny.npz", **given)
    assert_same_rows(read_key(tmp_path / "b", "m", "d"), read_key(tmp_path / "a"))


def test_equal_features_give_equal_files(tmp_path: Path, folder: Path) -> None:
    export(tmp_path / "a", tmp_path / "again", format="npz")
    again = tmp_path / "again/tiny/calls/all_tiny.npz"
    assert again.read_bytes() == (folder / "all_tiny.npz").read_bytes()


def paper_npz(path: Path, n: int = N, n_layers: int = 13, width: int = 8) -> np.ndarray:
    """As ``compile_feats.py`` writes it: entries in the order of sorted batch files, not of positions."""
    values = np.random.default_rng(0).standard_normal((n, n_layers, width)).astype(np.float32)
    np.savez(path, **{k: values[int(k)] for k in sorted(map(str, range(n)))})
    return values


def test_the_papers_file_is_matched_by_position(tmp_path: Path) -> None:
    values = paper_npz(tmp_path / "all_hubert.npz")
    values[5] = np.nan
    values[7, :, 6:] = np.nan  # a clip of one frame: its standard deviation is undefined
    np.savez(tmp_path / "all_hubert.npz", **{str(i): v for i, v in enumerate(values)})
    summary = import_(
        tmp_path / "all_hubert.npz",
        tmp_path / "b",
        format="npz",
        model="hubert",
        dataset="imv",
        manifest=manifest_of(N),
    )
    assert "2 rows of" in summary.notes[0]
    features = read_key(tmp_path / "b", "hubert", "imv")
    assert features.layers == list(range(13))
    assert features.index["utterance_id"].tolist() == manifest_of(N).table["utterance_id"].tolist()
    assert np.flatnonzero(features.index["status"] != "ok").tolist() == [5, 7]
    assert features.index["duration_s"].iloc[2] == 0.5
    values[7] = np.nan
    for k in (0, 12):
        np.testing.assert_array_equal(features.layer(k).numpy(), values[:, k].reshape(N, 2, 4))
    imported = features.attrs["fingerprint"]["imported"]
    assert imported["layout"] == "npz, one entry per utterance [layers, functionals * features]"


def test_rows_of_the_manifest_without_a_sample_are_rows(tmp_path: Path) -> None:
    """The study's code counts them, so leaving them out would put every later row in another's place."""
    values = paper_npz(tmp_path / "all_hubert.npz")
    table = manifest_of(N).table.astype({"start_s": float, "end_s": float})
    table.loc[2, ["start_s", "end_s"]] = [0.7, 0.4]
    table.loc[3, ["start_s", "end_s"]] = [0.7, 0.7]
    write_manifest(table, tmp_path / "m.csv")
    summary = import_(
        tmp_path / "all_hubert.npz",
        tmp_path / "b",
        format="npz",
        model="hubert",
        dataset="imv",
        manifest=tmp_path / "m.csv",
    )
    (note,) = summary.notes
    assert note.startswith("2 rows of ")
    assert "without a sample between start and end: what their values were made of is not known" in note
    features = read_key(tmp_path / "b", "hubert", "imv")
    rows = features.index.reset_index(drop=True)
    place = dict(zip(table["utterance_id"], range(N), strict=True))
    at = [place[i] for i in rows["utterance_id"]]
    assert sorted(at) == list(range(N))
    np.testing.assert_array_equal(features.layer(12).numpy(), values[at, 12].reshape(N, 2, 4))
    no_length = {at[row] for row in np.flatnonzero(rows["duration_s"].isna())}
    assert no_length == {2, 3} | {i for i in range(N) if i % 3 == 0}  # and those without times


def test_old_ids_are_mapped(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((3, 2, 9)).astype(np.float32)
    np.savez(tmp_path / "x.npz", **dict(zip(("call_b", "call_a", "ñ"), values, strict=True)))
    ids = manifest_of(5).table["utterance_id"]
    table = pd.DataFrame({"old_id": ["ñ", "gone", "call_a", "call_b"], "utterance_id": ids[:4]})
    table.to_csv(tmp_path / "map.csv", index=False)
    options = {"manifest": manifest_of(5), "id_map": tmp_path / "map.csv", "functionals": ["a", "b", "c"]}
    features = read_key(bring(tmp_path, tmp_path / "x.npz", **options), "m", "d")
    assert features.index["utterance_id"].tolist() == [ids[3], ids[2], ids[0]]
    np.testing.assert_array_equal(features.layer(1).numpy(), values[:, 1].reshape(3, 3, 3))
    # Another map means other contents.
    table["utterance_id"] = ids[:4].tolist()[::-1]
    table.to_csv(tmp_path / "map.csv", index=False)
    with pytest.raises(FingerprintMismatch, match=r"imported\.rows_sha256"):
        bring(tmp_path, tmp_path / "x.npz", **options)


class Bomb:
    """Tells when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.target),)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    bomb = np.empty((2, 8), dtype=object)
    bomb[:] = Bomb(tmp_path / "exploded")
    np.savez(tmp_path / "x.npz", **{"0": bomb})
    manifest = manifest_of(1)
    with pytest.raises(CorruptData, match=r"entry '0': expected float32 or float16 .*got object"):
        bring(tmp_path, tmp_path / "x.npz", manifest=manifest)
    (tmp_path / "y.npz").write_bytes(pickle.dumps({"0": 1}))
    with pytest.raises(StoreError, match="not a readable npz file"):
        bring(tmp_path, tmp_path / "y.npz", manifest=manifest)
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "b").exists()


def entry(shape: tuple[int, ...], data: bytes, descr: str = "<f4") -> bytes:
    """Bytes of an array file with a header of one's choice."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue() + data


GOOD = entry((2, 4), np.ones(8, "<f4").tobytes())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"0.npy": GOOD, "1.npy": entry((2, 6), bytes(48))}, r"entry '1' is float32 \(2, 6\), entry '0' is"),
        ({"0.npy": GOOD, "1.npy": entry((2, 4), bytes(16), "<f2")}, "entry '1' is float16"),
        ({"0.npy": entry((2, 4), bytes(64), "<f8")}, "expected float32 or float16 .*got float64"),
        ({"0.npy": entry((8,), bytes(32))}, r"expected float32 or float16 \[layers, .*got float32 \(8,\)"),
        ({"0.npy": entry((10**9, 10**9), b"")}, "its size does not fit its shape"),
        ({"0.npy": b"garbage"}, "entry '0': cannot be read"),
        ({"0.txt": GOOD}, "entry '0.txt' stands twice or is not an array"),
        ({}, "holds no arrays"),
    ],
)
def test_archives_that_do_not_fit(tmp_path: Path, entries: dict[str, bytes], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(CorruptData, match=message) as caught:
        bring(tmp_path, tmp_path / "x.npz", manifest=manifest_of(max(1, len(entries))))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b").exists()


def test_entries_that_stand_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("0.npy", GOOD)
        archive.writestr("0.npy", GOOD)
    with pytest.raises(CorruptData, match=r"entry '0\.npy' stands twice"):
        bring(tmp_path, tmp_path / "x.npz", manifest=manifest_of(2))


def test_a_flipped_byte_is_found(tmp_path: Path, folder: Path) -> None:
    path = folder / "all_tiny.npz"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.getinfo("9.npy").header_offset + 200] ^= 1
    path.write_bytes(data)
    given = {"manifest": folder / "manifest.csv", "id_map": folder / "index.csv", "layers": LAYERS}
    with pytest.raises(CorruptData, match=r"entry '9': is damaged in its archive .another checksum"):
        bring(tmp_path, path, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"manifest": None}, "names no utterances; give the data set's --manifest"),
        (
            {"manifest": manifest_of(24)},
            "expected entries 0 to 23, one per row of m.csv, found 23 .*--id-map",
        ),
        ({"layers": [0, 1]}, "entries hold 3 layers, --layers names 2"),
        ({"functionals": ["a"] * 5}, "rows of 12 values are not 5 functionals side by side"),
        ({"key": "m/d"}, "--key is for HDF5 files"),
        ({"model": None}, "names no model; give it with --model"),
        ({"dataset": ""}, "names no dataset; give it with --dataset"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, folder: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        bring(tmp_path, folder / "all_tiny.npz", **{"manifest": manifest_of(N), **options})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "position,id\n0,a\n",
            "expected the columns position .or old_id. and utterance_id, got position, id",
        ),
        ("position,utterance_id\n0,a\n0,b\n", "row 3: position '0' stands already above"),
        ("position,utterance_id\n0,a\n", "22 of 23 entries of .* are not in column position"),
        (
            'position,utterance_id\n0,"a\n1,b\n2,c"\n',
            "row 2: a quote .* over what looks like rows",
        ),
        ("position,utterance_id\n0\n", "row 2 has 1 cell, the first row has 2"),
        (None, "not a readable CSV"),
    ],
)
def test_id_maps_that_do_not_fit(tmp_path: Path, folder: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "map.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        bring(tmp_path, folder / "all_tiny.npz", manifest=manifest_of(N), id_map=tmp_path / "map.csv")


@pytest.mark.parametrize(
    ("column", "value", "error", "message"),
    [
        ("utterance_id", "stranger", ConfigError, "1 of 23 utterances are not in"),
        ("status", "ok", CorruptData, r"is ok and yet holds NaN"),
        ("n_frames", "many", ConfigError, "n_frames 'many' is not a number"),
    ],
)
def test_id_maps_that_contradict_the_file(
    tmp_path: Path, folder: Path, column: str, value: str, error: type[UserError], message: str
) -> None:
    table = pd.read_csv(folder / "index.csv", dtype=str, keep_default_na=False)
    row = int((table["status"] != "ok").to_numpy().argmax())
    table.loc[row, column] = value
    table.to_csv(tmp_path / "map.csv", index=False)
    given = {"manifest": folder / "manifest.csv", "id_map": tmp_path / "map.csv", "layers": LAYERS}
    with pytest.raises(error, match=message):
        bring(tmp_path, folder / "all_tiny.npz", **given)
    assert not (tmp_path / "b").exists()


def test_the_manifest_beside_the_file_is_one(folder: Path) -> None:
    manifest = read_manifest(folder / "manifest.csv", check_files=False)
    expected = manifest_of(N)
    pd.testing.assert_frame_equal(manifest.table, expected.table)


def test_float16_entries_and_foreign_byte_orders_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((3, 2, 8))
    manifest = from_table(
        pd.DataFrame({"path": ["a.wav", "b.wav", "c.wav"]}, dtype=object),
        source="m.csv",
        base=Path("/"),
        check_files=False,
    )
    for at, descr in enumerate(("<f2", ">f4", "F")):
        given = [np.asfortranarray(v, "<f4") if descr == "F" else v.astype(descr) for v in values]
        np.savez(tmp_path / "x.npz", **{str(i): v for i, v in enumerate(given)})
        bring(tmp_path, tmp_path / "x.npz", manifest=manifest, model=f"m{at}")
        layer = read_key(tmp_path / "b", f"m{at}", "d").layer(1)
        assert layer.dtype == given[0].dtype.newbyteorder("=")
        np.testing.assert_array_equal(layer.numpy(), np.stack(given)[:, 1].reshape(3, 2, 4))
