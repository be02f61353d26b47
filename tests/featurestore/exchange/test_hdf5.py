from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch, StoreError, UserError
from featurestore.exchange import export, import_
from featurestore.manifest.table import write_manifest
from tests.featurestore.exchange.keys import (
    FINGERPRINT,
    LAYERS,
    assert_same_rows,
    findings,
    manifest_of,
    manifest_text,
    read_key,
    write_key,
)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    write_key(tmp_path / "a")
    return export(tmp_path / "a", tmp_path / "x.h5", format="hdf5").out


def copied(tmp_path: Path, source: Path, **options: object) -> Path:
    import_(source, tmp_path / "b", format="hdf5", **options)  # type: ignore[arg-type]
    return tmp_path / "b"


@pytest.mark.parametrize(
    ("dtype", "codec"),
    [
        ("float32", "fast"),
        ("float16", "small"),
        ("float32", "raw"),
        ("float16", "pcodec"),
        ("float16", "bitround5"),
    ],
)
def test_a_key_comes_back_bit_for_bit(tmp_path: Path, dtype: str, codec: str) -> None:
    write_key(tmp_path / "a", dtype=dtype, codec=codec)
    summary = export(tmp_path / "a", tmp_path / "x.h5", format="hdf5")
    assert summary.notes == ()
    assert (summary.keys[0].n_rows, summary.keys[0].n_failed, summary.keys[0].n_rows_left_out) == (23, 2, 0)
    assert summary.n_bytes == (tmp_path / "x.h5").stat().st_size
    imported = import_(summary.out, tmp_path / "b", format="hdf5")
    assert imported.notes == ()
    assert (imported.keys[0].model, imported.keys[0].dataset) == ("tiny", "calls")
    assert (imported.keys[0].n_units_written, imported.keys[0].n_units_kept) == (3, 0)
    original, copy = read_key(tmp_path / "a"), read_key(tmp_path / "b")
    assert_same_rows(copy, original)
    assert copy.attrs == original.attrs
    assert findings(tmp_path / "b") == []
    pd.testing.assert_frame_equal(manifest_text(copy), manifest_text(original))
    assert copy.label_columns == original.label_columns
    failed = {i: r for record in original.ledger.values() for i, r in record.failed.items()}
    assert {i: r for record in copy.ledger.values() for i, r in record.failed.items()} == failed


def test_values_that_are_rounded_on_the_way_are_another_extraction(tmp_path: Path) -> None:
    write_key(tmp_path / "a", dtype="float16")
    made = export(tmp_path / "a", tmp_path / "x.h5", format="hdf5").out
    fingerprint = read_key(tmp_path / "a").attrs["fingerprint"]
    copy = read_key(copied(tmp_path, made, codec="bitround5"))
    assert copy.attrs["fingerprint"] == {**fingerprint, "mantissa_bits": 5}
    with pytest.raises(FingerprintMismatch, match="mantissa_bits"):
        import_(made, tmp_path / "b", format="hdf5")


def test_plain_h5py_reads_everything(tmp_path: Path, exported: Path) -> None:
    features = read_key(tmp_path / "a")
    index = features.index
    with h5py.File(exported) as file:
        assert file.attrs["format"] == "featurestore-hdf5"
        group = file["tiny/calls"]
        assert group.attrs["functionals"].tolist() == ["mean", "std"]
        assert group.attrs["layers"].tolist() == list(LAYERS)
        assert json.loads(group.attrs["fingerprint"]) == FINGERPRINT
        assert json.loads(group.attrs["versions"]) == {"python": "3.11", "torch": "2.13"}
        assert json.loads(group.attrs["model_card"]) == {"licence": "MIT", "width": 6}
        for k in LAYERS:
            layer = group[f"layer_{k:02d}"]
            assert layer[:].tobytes() == features.layer(k).numpy().tobytes()
            assert [d.label for d in layer.dims] == ["utterance", "functional", "feature"]
            assert layer.chunks is not None
            assert layer.fletcher32
        for name in ("utterance_id", "status", "audio_hash"):
            assert group[name].asstr()[:].tolist() == index[name].tolist()
            assert group[name].fletcher32
        np.testing.assert_array_equal(group["n_frames"][:], index["n_frames"])
        np.testing.assert_array_equal(group["duration_s"][:], index["duration_s"])
        manifest = group["manifest"]
        assert manifest["call type"].asstr()[:].tolist() == index["call type"].tolist()
        assert manifest["a%2Fb%25."].attrs["column"] == "a/b%."
        assert manifest["a%2Fb%25."].asstr()[:].tolist() == index["a/b%."].tolist()
        np.testing.assert_array_equal(manifest["start_s"][:], index["start_s"])
        np.testing.assert_array_equal(manifest["channel"][:], index["channel"].fillna(-1))
        ids = features.manifest.table["utterance_id"].to_numpy()
        assert ids[group["manifest_row"][:]].tolist() == index["utterance_id"].tolist()


def test_only_committed_rows_leave_and_the_rest_is_counted(tmp_path: Path) -> None:
    write_key(tmp_path / "a", units=(0, 2), failed=(17,))
    write_key(tmp_path / "a", manifest=manifest_of(30), units=(0, 2, 3), failed=(25,), shuffled=False)
    original = read_key(tmp_path / "a")
    assert original.index["row"].tolist() == [*range(8), *range(16, 23), *range(24, 31)]
    summary = export(tmp_path / "a", tmp_path / "x.h5", format="hdf5")
    assert summary.keys[0].n_rows_left_out == 8
    assert "tiny/calls: 8 rows are not committed yet and are left out" in summary.notes[0]
    copy = read_key(copied(tmp_path, summary.out))
    assert_same_rows(copy, original)
    # The order of the data set, which splits may depend on, without what was left out.
    expected = manifest_text(original, original.index["utterance_id"].tolist())
    pd.testing.assert_frame_equal(manifest_text(copy), expected)


def test_layers_and_names_can_be_chosen(tmp_path: Path, exported: Path) -> None:
    export(tmp_path / "a", tmp_path / "part.h5", format="hdf5", layers=[3, 0])
    assert_same_rows(read_key(copied(tmp_path, tmp_path / "part.h5")), read_key(tmp_path / "a"), (0, 3))
    import_(exported, tmp_path / "c", format="hdf5", layers=[1], model="m", dataset="d", unit_rows=5)
    renamed = read_key(tmp_path / "c", "m", "d")
    assert_same_rows(renamed, read_key(tmp_path / "a"), (1,))
    assert len(renamed.units) == 5


@pytest.mark.slow
def test_several_keys_travel_in_one_file(tmp_path: Path) -> None:
    write_key(tmp_path / "a")
    write_key(tmp_path / "a", model="other", n=3, failed=())
    write_key(tmp_path / "a", model="other", dataset="empty", units=())
    summary = export(tmp_path / "a", tmp_path / "x.h5", format="hdf5")
    assert summary.notes == ("other/empty has no committed rows and is left out",)
    assert len(import_(summary.out, tmp_path / "b", format="hdf5").keys) == 2
    for model in ("tiny", "other"):
        assert_same_rows(read_key(tmp_path / "b", model), read_key(tmp_path / "a", model))
    with pytest.raises(
        ConfigError, match=r"holds 2 keys .other/calls, tiny/calls.; choose one of them with --key"
    ):
        import_(summary.out, tmp_path / "c", format="hdf5", model="m")
    import_(summary.out, tmp_path / "c", format="hdf5", model="m", key="tiny/calls")
    assert_same_rows(read_key(tmp_path / "c", "m"), read_key(tmp_path / "a"))


def test_an_interrupted_import_goes_on_where_it_was(
    tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurestore.store.writer import KeyWriter

    write = KeyWriter.write_unit

    def stop_at_second(self: KeyWriter, unit: object, *args: object, **options: object) -> object:
        if getattr(unit, "index") == 1:  # noqa: B009
            raise KeyboardInterrupt
        return write(self, unit, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyWriter, "write_unit", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        copied(tmp_path, exported)
    monkeypatch.undo()
    assert len(read_key(tmp_path / "b").units) == 1
    calls: list[tuple[int, int]] = []
    summary = import_(exported, tmp_path / "b", format="hdf5", on_progress=lambda *c: calls.append(c))
    assert (summary.keys[0].n_units_written, summary.keys[0].n_units_kept) == (2, 1)
    assert calls[-1] == (46, 46)
    assert_same_rows(read_key(tmp_path / "b"), read_key(tmp_path / "a"))


def test_a_file_fills_the_holes_of_a_key_in_another_order(tmp_path: Path, exported: Path) -> None:
    original = read_key(tmp_path / "a")
    write_key(tmp_path / "b", units=(), shuffled=False)
    summary = import_(exported, tmp_path / "b", format="hdf5")
    copy = read_key(tmp_path / "b")
    assert summary.keys[0].n_units_written == 3
    assert copy.index["utterance_id"].tolist() == manifest_of(23).table["utterance_id"].tolist()
    place = original.index["utterance_id"].tolist()
    order = [place.index(i) for i in copy.index["utterance_id"]]
    for k in LAYERS:
        np.testing.assert_array_equal(copy.layer(k).numpy(), original.layer(k).numpy()[order])


def test_units_with_utterances_that_the_file_lacks_stay_uncommitted(tmp_path: Path, exported: Path) -> None:
    write_key(tmp_path / "b", n=26, units=(), shuffled=False)
    summary = import_(exported, tmp_path / "b", format="hdf5")
    assert (summary.keys[0].n_units_written, summary.keys[0].n_units_kept) == (2, 2)
    note = "unit 2 of tiny/calls stays uncommitted: it holds 1 utterances that .*x.h5:/tiny/calls lacks"
    assert any(re.match(note, n) for n in summary.notes)
    assert len(read_key(tmp_path / "b").index) == 16


def test_pruned_rows_of_a_unit_stay_nobodys(tmp_path: Path, exported: Path) -> None:
    write_key(tmp_path / "b", n=26, units=(), shuffled=False)
    manifest = manifest_of(23)
    write_key(tmp_path / "b", units=(), shuffled=False, prune=True)
    import_(exported, tmp_path / "b", format="hdf5")
    copy, original = read_key(tmp_path / "b"), read_key(tmp_path / "a")
    assert copy.index["utterance_id"].tolist() == manifest.table["utterance_id"].tolist()
    place = original.index["utterance_id"].tolist()
    order = [place.index(i) for i in copy.index["utterance_id"]]
    np.testing.assert_array_equal(copy.layer(3).numpy(), original.layer(3).numpy()[order])
    assert findings(tmp_path / "b") == []
    again = export(tmp_path / "b", tmp_path / "y.h5", format="hdf5")
    assert (again.keys[0].n_rows, again.notes) == (23, ())


def test_another_key_of_that_name_is_replaced_only_when_asked(tmp_path: Path, exported: Path) -> None:
    write_key(tmp_path / "b", fingerprint={"model": "another"}, n_features=3)
    with pytest.raises(FingerprintMismatch, match="--overwrite"):
        copied(tmp_path, exported)
    assert_same_rows(read_key(copied(tmp_path, exported, overwrite=True)), read_key(tmp_path / "a"))


def bare(path: Path, n: int = 4, **arrays: object) -> h5py.File:
    """A stranger's file: layers and ids, nothing else."""
    file = h5py.File(path, "w")
    group = file.create_group("m/d")
    rng = np.random.default_rng(1)
    for name in ("layer_00", "layer_01"):
        group[name] = rng.standard_normal((n, 2, 3)).astype(np.float32)
    group["utterance_id"] = manifest_of(n).table["utterance_id"].tolist()
    for name, value in arrays.items():
        if name in group:
            del group[name]
        if value is not None:
            group[name] = value
    return file


def test_a_strangers_file_becomes_a_key_with_its_origin_as_fingerprint(tmp_path: Path) -> None:
    with bare(tmp_path / "s.h5") as file:
        file["m/d/layer_01"][2, 1] = np.nan
        file["m/d"].move("layer_01", "layer_04")
        values = {k: file[f"m/d/layer_0{k}"][:] for k in (0, 4)}
    options = {"format": "hdf5", "manifest": manifest_of(6), "functionals": ["mean", "std"]}
    summary = import_(tmp_path / "s.h5", tmp_path / "b", **options)  # type: ignore[arg-type]
    assert "1 rows of" in summary.notes[0]
    assert "2 utterances of m.csv have no row in" in summary.notes[1]
    features = read_key(tmp_path / "b", "m", "d")
    assert features.index["status"].tolist()[2] == "failed: not a number in the imported file"
    assert features.index["n_frames"].tolist() == [-1] * 4
    for k, expected in values.items():
        expected[2] = np.nan
        np.testing.assert_array_equal(features.layer(k).numpy(), expected)
    imported = features.attrs["fingerprint"]["imported"]
    assert (imported["format"], imported["layers"], len(imported["source_sha256"])) == ("hdf5", [0, 4], 64)
    # The same file again is the same key; another is not.
    assert import_(tmp_path / "s.h5", tmp_path / "b", **options).keys[0].n_units_written == 0  # type: ignore[arg-type]
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["m/d/layer_00"][0, 0, 0] += 1
    with pytest.raises(FingerprintMismatch, match=r"imported\.source_sha256: stored"):
        import_(tmp_path / "s.h5", tmp_path / "b", **options)  # type: ignore[arg-type]


Change = Callable[[h5py.Group], object]


def put(name: str, value: object) -> Change:
    def change(group: h5py.Group) -> None:
        if name in group:
            del group[name]
        group[name] = value

    return change


def external_storage(group: h5py.Group) -> None:
    del group["layer_00"]
    raw = Path(group.file.filename).with_suffix(".raw")
    raw.write_bytes(bytes(4 * 2 * 3 * 4))
    group.create_dataset("layer_00", shape=(4, 2, 3), dtype="f4", external=[(str(raw), 0, 96)])


def virtual(group: h5py.Group) -> None:
    del group["layer_00"]
    layout = h5py.VirtualLayout(shape=(4, 2, 3), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4, 2, 3), dtype="f4")
    group.create_virtual_dataset("layer_00", layout)


def unwritten(group: h5py.Group) -> None:
    del group["layer_00"]
    group.create_dataset("layer_00", shape=(4, 2, 3), dtype="f4", chunks=(2, 2, 3))[:2] = 1


def huge(group: h5py.Group) -> None:
    for name in ("layer_00", "layer_01", "utterance_id"):
        del group[name]
    for name in ("layer_00", "layer_01"):
        group.create_dataset(name, shape=(10**12, 2, 3), dtype="f4", chunks=(2, 2, 3))
    group.create_dataset("utterance_id", shape=(10**12,), dtype=h5py.string_dtype(), chunks=(2,))


def with_nan(group: h5py.Group) -> None:
    group["status"] = ["ok"] * 4
    group["layer_01"][3] = np.nan


def failed_with_numbers(group: h5py.Group) -> None:
    group["status"] = ["ok", "failed: x", "ok", "ok"]


IDS = manifest_of(4).table["utterance_id"].tolist()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            put("layer_00", h5py.ExternalLink("other.h5", "/x")),
            StoreError,
            "is a link to another place; refused",
        ),
        (put("utterance_id", h5py.SoftLink("/elsewhere")), StoreError, "is a link to another place; refused"),
        (external_storage, StoreError, "keeps its values in another file; refused"),
        (virtual, StoreError, "keeps its values in another file; refused"),
        (unwritten, CorruptData, "was not written to its end"),
        (huge, CorruptData, "more than a file of this size can hold"),
        (
            put("layer_01", np.zeros((4, 2, 5), "f4")),
            CorruptData,
            r"layer_01 is float32 \(4, 2, 5\).*must be alike",
        ),
        (put("layer_01", np.zeros((4, 2, 3), "f2")), CorruptData, "layer_01 is float16.*must be alike"),
        (
            put("layer_00", np.zeros((4, 6), "f4")),
            CorruptData,
            r"expected \(utterance, functional, feature\)",
        ),
        (put("layer_00", np.zeros((4, 2, 3))), CorruptData, "expected float32 or float16, got float64"),
        (put("utterance_id", np.arange(4)), CorruptData, "utterance_id: expected text, got int64"),
        (put("utterance_id", IDS[:3]), CorruptData, r"utterance_id: expected shape \(4,\), got \(3,\)"),
        (put("utterance_id", [*IDS[:3], IDS[0]]), CorruptData, "row 3: id '000/ñ,0.0' stands already above"),
        (put("utterance_id", [*IDS[:3], ""]), CorruptData, "row 3 has an empty id"),
        (
            put("utterance_id", [*IDS[:3], "stranger"]),
            ConfigError,
            "1 of 4 utterances are not in m.csv .first 'str",
        ),
        (put("status", ["ok", "?", "ok", "ok"]), CorruptData, r"""status '\?'; expected "ok" or"""),
        (with_nan, CorruptData, r"row 3 \('003.*is ok and yet holds NaN or infinity in layer 1"),
        (failed_with_numbers, CorruptData, r"row 1 .*is 'failed: x' and yet holds numbers in layer 0"),
        (put("n_frames", ["a"] * 4), CorruptData, "n_frames: expected numbers"),
        (lambda g: g.attrs.update(fingerprint="{"), CorruptData, "attribute fingerprint is not JSON"),
        (
            lambda g: g.attrs.update(fingerprint="[]"),
            CorruptData,
            "attribute fingerprint is not a JSON object",
        ),
        (
            lambda g: g.attrs.update(functionals=["mean"]),
            CorruptData,
            r"2 functionals stored, 1 named \(mean\)",
        ),
        (lambda g: g.file.attrs.update(format_version=99), StoreError, "format version 99.*upgrade"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, change: Change, error: type[UserError], message: str
) -> None:
    with bare(tmp_path / "s.h5") as file:
        file["m/d"].attrs["functionals"] = ["mean", "std"]
        change(file["m/d"])
    with pytest.raises(error, match=message) as caught:
        import_(tmp_path / "s.h5", tmp_path / "b", format="hdf5", manifest=manifest_of(4))
    assert "\n" not in str(caught.value)
    assert "s.h5" in str(caught.value)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "holds no manifest; give one with --manifest"),
        ({"manifest": manifest_of(4), "key": "m/e"}, "no such group; the file holds m"),
        ({"manifest": manifest_of(4), "layers": [7]}, "has layers 0-1, not 7"),
        ({"manifest": manifest_of(4), "model": "../up"}, "model name '../up' may hold"),
        ({"manifest": manifest_of(4), "id_map": "map.csv"}, "--id-map is for npz files"),
        ({"manifest": manifest_of(4), "unit_rows": 0}, "unit_rows of at least 1"),
        (
            {"manifest": manifest_of(4), "format": "parquet"},
            "is written but not read; expected one of hdf5, npz",
        ),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, object], message: str) -> None:
    bare(tmp_path / "s.h5").close()
    given = {"format": "hdf5", "functionals": ["mean", "std"], **options}
    with pytest.raises(UserError, match=message):
        import_(tmp_path / "s.h5", tmp_path / "b", **given)  # type: ignore[arg-type]


def test_the_dtype_of_an_extraction_is_not_changed(tmp_path: Path, exported: Path) -> None:
    with pytest.raises(ConfigError, match="was extracted as float32 and comes back as that"):
        copied(tmp_path, exported, dtype="float16")
    bare(tmp_path / "s.h5").close()
    options = {"manifest": manifest_of(4), "functionals": ["mean", "std"], "dtype": "float16"}
    copied(tmp_path, tmp_path / "s.h5", **options)
    assert read_key(tmp_path / "b", "m", "d").layer(0).dtype == np.float16


def test_what_the_file_says_of_itself_is_not_renamed(tmp_path: Path, exported: Path) -> None:
    with pytest.raises(ConfigError, match="holds mean, std, not max, min; leave out --functionals"):
        copied(tmp_path, exported, functionals=["max", "min"])


def test_a_damaged_file_is_an_error_and_never_a_number(tmp_path: Path, exported: Path) -> None:
    with h5py.File(exported) as file:
        offset = file["tiny/calls/layer_01"].id.get_chunk_info(0).byte_offset
    damaged = bytearray(exported.read_bytes())
    damaged[offset + 40] ^= 1
    exported.write_bytes(damaged)
    with pytest.raises(CorruptData, match=r"layer_01: rows 0 to 22 cannot be read .*get another copy"):
        copied(tmp_path, exported)
    assert not (tmp_path / "b").exists()
    exported.write_bytes(b"not HDF5")
    with pytest.raises(StoreError, match="not a readable HDF5 file"):
        copied(tmp_path, exported)
    with pytest.raises(StoreError, match="no such file"):
        copied(tmp_path, tmp_path / "absent.h5")


def test_a_manifest_of_ones_own_replaces_the_labels(tmp_path: Path, exported: Path) -> None:
    table = manifest_of(23).table.assign(species="all one")
    path = write_manifest(table, tmp_path / "new.csv")
    features = read_key(copied(tmp_path, exported, manifest=path))
    assert set(features.index["species"]) == {"all one"}


def test_text_that_hdf5_cannot_keep_is_refused(tmp_path: Path) -> None:
    manifest = manifest_of(4)
    manifest.table.loc[2, "species"] = "cut\0"
    write_key(tmp_path / "a", n=4, failed=(), manifest=manifest)
    with pytest.raises(ConfigError, match="'species' ends with a NUL character"):
        export(tmp_path / "a", tmp_path / "x.h5", format="hdf5")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
