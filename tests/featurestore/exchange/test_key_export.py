from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest

from featurestore.backends.storage import open_storage
from featurestore.errors import ConfigError, CorruptData, KeyNotFound, StoreError
from featurestore.exchange import export, format_names, import_
from featurestore.exchange.key_export import MARKER
from featurestore.format.layer_arrays import FrameShape, room_for
from featurestore.store.writer import delete_key
from tests.featurestore.exchange.keys import LAYERS, assert_same_rows, read_key, write_key

FORMATS = format_names()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def contents(path: Path) -> dict[str, bytes]:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return {str(f.relative_to(path)): f.read_bytes() for f in files}


@pytest.mark.parametrize("name", FORMATS)
def test_what_exists_is_replaced_only_when_asked(tmp_path: Path, name: str) -> None:
    write_key(tmp_path / "a")
    export(tmp_path / "a", tmp_path / "x", format=name, layers=[0])
    before = contents(tmp_path / "x")
    with pytest.raises(StoreError, match="exists; give another --out, or replace it with --overwrite"):
        export(tmp_path / "a", tmp_path / "x", format=name)
    assert contents(tmp_path / "x") == before
    calls: list[tuple[int, int]] = []
    summary = export(
        tmp_path / "a", tmp_path / "x", format=name, overwrite=True, on_progress=lambda *c: calls.append(c)
    )
    assert contents(tmp_path / "x") != before
    assert summary.keys[0].layers == LAYERS
    assert summary.n_bytes == sum(map(len, contents(tmp_path / "x").values()))
    assert calls[-1] == (3 * 23, 3 * 23)
    assert names(tmp_path) == ["a", "x"]


@pytest.mark.parametrize("name", FORMATS)
def test_damage_ends_the_export_and_leaves_nothing_or_what_was_there(tmp_path: Path, name: str) -> None:
    write_key(tmp_path / "a")
    export(tmp_path / "a", tmp_path / "x", format=name)
    before = contents(tmp_path / "x")
    shard = tmp_path / "a/tiny/calls/layer_03/c/2/0/0"
    data = bytearray(shard.read_bytes())
    data[17] ^= 1
    shard.write_bytes(data)
    for out, overwrite in (("y", False), ("x", True)):
        with pytest.raises(CorruptData, match=r"layer_03.* cannot be read"):
            export(tmp_path / "a", tmp_path / out, format=name, overwrite=overwrite)
    assert contents(tmp_path / "x") == before
    assert names(tmp_path) == ["a", "x"]


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "hdf5"])
def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path: Path, name: str) -> None:
    write_key(tmp_path / "a")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for out in ("home", "file", "link"):
        with pytest.raises(StoreError, match="is not a folder that an export wrote"):
            export(tmp_path / "a", tmp_path / out, format=name, overwrite=True)
    assert (tmp_path / "home/thesis.tex").read_text() == "years of work"
    marker = json.loads((export(tmp_path / "a", tmp_path / "x", format=name).out / MARKER).read_text())
    assert (marker["format"], marker["exchange_format"]) == ("featurestore-export", name)
    assert marker["keys"][0]["layers"] == list(LAYERS)


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    write_key(tmp_path / "a")
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreError, match="is a folder, and format hdf5 writes a file"):
        export(tmp_path / "a", tmp_path / "x", format="hdf5", overwrite=True)


def test_a_file_of_somebody_is_not_replaced(tmp_path: Path) -> None:
    write_key(tmp_path / "a")
    (tmp_path / "manifest.csv").write_text("path,call\na.wav,years of work\n")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["mine"] = 1
    for name in ("manifest.csv", "other.h5"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StoreError, match="is no file that an export wrote, and would be lost"):
            export(tmp_path / "a", tmp_path / name, format="hdf5", overwrite=True)
        assert (tmp_path / name).read_bytes() == before


def test_options_that_cannot_work(tmp_path: Path) -> None:
    write_key(tmp_path / "a")
    store = tmp_path / "a"
    with pytest.raises(ConfigError, match="no format 'mat'; expected one of hdf5, parquet, npz, hear"):
        export(store, tmp_path / "x", format="mat")
    with pytest.raises(KeyNotFound, match="no model 'huge'; it holds tiny"):
        export(store, tmp_path / "x", format="hdf5", models=["huge"])
    with pytest.raises(KeyNotFound, match="no dataset 'cats'; it holds calls"):
        export(store, tmp_path / "x", format="hdf5", datasets=["calls", "cats"])
    with pytest.raises(KeyNotFound, match="has layers 0-1,3, not 2"):
        export(store, tmp_path / "x", format="hdf5", layers=[2])
    with pytest.raises(ConfigError, match="at least one layer"):
        export(store, tmp_path / "x", format="hdf5", layers=[])
    with pytest.raises(ConfigError, match="exports are local"):
        export(store, "s3://bucket/x.h5", format="hdf5")
    with pytest.raises(ConfigError, match="lies inside the store"):
        export(store, store / "x.h5", format="hdf5")
    with pytest.raises(StoreError, match="no feature store here"):
        export(tmp_path / "b", tmp_path / "x", format="hdf5")
    assert names(tmp_path) == ["a"]


def test_models_and_datasets_are_chosen(tmp_path: Path) -> None:
    for model in ("m1", "m2"):
        for dataset in ("d1", "d2"):
            write_key(tmp_path / "a", n=3, failed=(), model=model, dataset=dataset)
    export(tmp_path / "a", tmp_path / "x", format="npz", models=["m2"], datasets=["d1"], layers=[0])
    assert [str(p.relative_to(tmp_path / "x")) for p in (tmp_path / "x").rglob("*.npz")] == [
        "m2/d1/all_m2.npz"
    ]


def test_a_layer_that_is_not_complete_ends_it_before_anything_is_written(tmp_path: Path) -> None:
    write_key(tmp_path / "a", layers=(0,))
    write_key(tmp_path / "a", layers=(0, 1), units=(1,))
    with pytest.raises(StoreError, match="layer 1 of tiny/calls is not complete"):
        export(tmp_path / "a", tmp_path / "x", format="hdf5")
    export(tmp_path / "a", tmp_path / "x", format="hdf5", layers=[0])
    assert names(tmp_path) == ["a", "x"]


def test_frames_stay_behind_and_are_named(tmp_path: Path) -> None:
    write_key(
        tmp_path / "a", layers=(0,), frames=FrameShape(n_features=6, unit_frames=room_for(8, 6, "float16"))
    )
    summary = export(tmp_path / "a", tmp_path / "x.h5", format="hdf5")
    assert summary.notes == ("tiny/calls: its frames are left out; exports hold the functionals",)
    # A key that keeps frames is not completed by rows without.
    with pytest.raises(ConfigError, match=r"key tiny/calls keeps frames, and .* has none"):
        import_(tmp_path / "x.h5", tmp_path / "a", format="hdf5")
    import_(tmp_path / "x.h5", tmp_path / "b", format="hdf5")
    assert_same_rows(read_key(tmp_path / "b"), read_key(tmp_path / "a"), (0,))


def test_stores_that_are_no_folders_are_exported_and_imported(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    write_key(f"{url}-a")
    for name in FORMATS:
        export(f"{url}-a", tmp_path / name, format=name)
    import_(tmp_path / "hdf5", f"{url}-b", format="hdf5")
    assert_same_rows(read_key(f"{url}-b"), read_key(f"{url}-a"))
    write_key(tmp_path / "c")
    for name in FORMATS:
        export(tmp_path / "c", tmp_path / f"{name}-c", format=name)
        if name in ("npz", "parquet", "hear"):
            assert contents(tmp_path / f"{name}-c") == contents(tmp_path / name)


def test_a_store_without_rows_is_an_error(tmp_path: Path) -> None:
    write_key(tmp_path / "a", units=())
    with pytest.raises(StoreError, match="nothing to export: tiny/calls has no committed rows"):
        export(tmp_path / "a", tmp_path / "x", format="hdf5")
    delete_key(open_storage(tmp_path / "a"), "tiny", "calls")
    with pytest.raises(StoreError, match="nothing to export: no key fits"):
        export(tmp_path / "a", tmp_path / "x", format="hdf5")


def test_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(tmp_path / "a")
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match=r"GB are free in .*; make room"):
        export(tmp_path / "a", tmp_path / "deep/x", format="hdf5")
    assert names(tmp_path) == ["a"]


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """No file grows beyond this; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    write_key(tmp_path / "a", n=256, unit_rows=256, n_features=64)
    with (
        full_disk(20_000),
        pytest.raises(StoreError, match="nothing was exported, mend it and run again") as said,
    ):
        export(tmp_path / "a", tmp_path / "x", format=name)
    assert "\n" not in str(said.value)
    assert names(tmp_path) == ["a"]


MEASURED = r"""
import re, sys
from featurestore.exchange import export, import_
def peak():
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024
small, large, out, name = sys.argv[1:]
def run(store, out):
    export(store, out, format=name)
    if name == "hdf5":
        import_(out, out + ".store", format=name)
    elif name == "npz":
        folder = out + "/tiny/calls/"
        import_(folder + "all_tiny.npz", out + ".store", format=name, model="m", dataset="d", unit_rows=64,
                manifest=folder + "manifest.csv", id_map=folder + "index.csv")
run(small, out + ".small")
before = peak()
run(large, out)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_key(tmp_path: Path, name: str) -> None:
    n, n_features, layers = 640, 3072, (0, 1, 2, 3)
    shape = {"n_features": n_features, "layers": layers, "unit_rows": 64, "failed": ()}
    write_key(tmp_path / "small", n=64, **shape)  # type: ignore[arg-type]
    write_key(tmp_path / "large", n=n, **shape)  # type: ignore[arg-type]
    key_bytes = n * 2 * n_features * 4 * len(layers)
    arguments = [str(tmp_path / part) for part in ("small", "large", "x")]
    command = [sys.executable, "-c", MEASURED, *arguments, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert key_bytes > 60e6
    assert int(done.stdout) < key_bytes / 2
