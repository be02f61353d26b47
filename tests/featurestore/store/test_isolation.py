"""A store of somebody else reads, writes and removes nothing outside it, and nothing of another key."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import cli
from featurestore.backends import contained_files
from featurestore.backends.storage import LocalStorage
from featurestore.errors import ConfigError, CorruptData, NotPlain, StoreError
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.row_arrays import HISTORY_ARRAY
from featurestore.store import fast_shards
from featurestore.store.history import history_document, read_history
from featurestore.store.key import read_key, unit_objects
from featurestore.store.layer import open_array
from featurestore.store.ledger import Record, read_ledger
from featurestore.store.reader import open_store
from featurestore.store.writer import delete_key, open_key
from featurestore.upkeep.key_copy import copy_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore.scenario import (
    LAYERS,
    N_FEATURES,
    N_ROWS,
    fill,
    manifest_of,
    request,
    values_of,
    write,
)

KEY = "tiny/calls"
OTHER = "tiny/other"
SHARD = f"{KEY}/layer_01/c/1/0/0"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def refused(*arguments: object) -> str:
    """What `fs` says in refusing: one line, and exit code 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the hash of its bytes; links as what they are."""
    return {
        str(p.relative_to(folder)): f"link to {os.readlink(p)}"
        if p.is_symlink()
        else hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_symlink() or p.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores, made once: one to be read, and one with another key, which no copy may touch."""
    folder = tmp_path_factory.mktemp("made")
    fill(LocalStorage(folder / "store"))
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(LocalStorage(folder / "target"), request(dataset="other"), manifest, ids)
    write(writer, {k: values_of(k + 7) for k in LAYERS})
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> LocalStorage:
    shutil.copytree(made / "store", tmp_path / "store")
    return LocalStorage(tmp_path / "store")


@pytest.fixture
def target(made: Path, tmp_path: Path) -> LocalStorage:
    shutil.copytree(made / "target", tmp_path / "target")
    return LocalStorage(tmp_path / "target")


# --- records that name what is not theirs -----------------------------------------------------------------


def crafted(storage: LocalStorage, unit: int, change: Callable[[Record], Record]) -> None:
    """Put a changed record of a unit, with its CRC right, in front of the sealed one."""
    record = change(read_ledger(storage, KEY)[unit])
    storage.put(f"{KEY}/ledger/c/{unit}", row_arrays.encode_text(record.to_json(), compress=False))


def naming(name: str, data: bytes = b"hostile") -> Callable[[Record], Record]:
    """A record that names one object more, with the size and checksum of these bytes."""
    return lambda record: dataclasses.replace(
        record, objects={**record.objects, name: fast_shards.describe_shard(data, 4)}
    )


@pytest.mark.parametrize(
    "name",
    [
        "../../tiny/other/layer_00/c/0/0/0",
        "../other/zarr.json",
        "layer_00/../../other/zarr.json",
        "../../../outside",
        "/etc/hostname",
        "zarr.json",
        "status/c/0",
        "layer_00/c/1/0/0",
        "layer_07/c/0/0/0",
    ],
)
def test_a_record_that_names_another_object_puts_nothing(
    store: LocalStorage, target: LocalStorage, name: str
) -> None:
    (store.root.parent / "outside").write_bytes(b"hostile")
    aim = store.root / KEY / name
    if not aim.exists():
        aim.resolve().parent.mkdir(parents=True, exist_ok=True)
        document = (store.root / KEY / "zarr.json").read_bytes()
        aim.resolve().write_bytes(document if name.endswith("zarr.json") else b"hostile")
    crafted(store, 0, naming(name, aim.read_bytes()))
    before = contents(target.root)
    line = refused("cp", store.url, target.url, "--model", "tiny", "--dataset", "calls")
    assert "the record of unit 0 of" in line or "ledger record tiny/calls/" in line
    assert contents(target.root) == before
    assert verify_key(target, "tiny", "other").findings == []


@pytest.mark.parametrize(
    "change",
    [
        lambda r: dataclasses.replace(r, unit=1),
        lambda r: dataclasses.replace(r, unit="../../../other/zarr.json"),
        lambda r: dataclasses.replace(r, layers=[*r.layers, 9]),
        lambda r: dataclasses.replace(r, objects=dict(list(r.objects.items())[1:])),
    ],
    ids=["another unit", "no unit", "a layer too many", "an object too few"],
)
def test_a_record_of_another_unit_or_layer_is_none(
    store: LocalStorage, target: LocalStorage, change: Callable[[Record], Record]
) -> None:
    crafted(store, 0, change)
    before = contents(target.root)
    with pytest.raises(CorruptData, match=r"the record of unit 0 of|ledger record tiny/calls/"):
        copy_key(store, target, "tiny", "calls")
    assert contents(target.root) == before


def test_the_objects_of_a_unit_are_those_of_its_record(store: LocalStorage) -> None:
    info = read_key(store, "tiny", "calls")
    for unit, record in read_ledger(store, KEY).items():
        assert unit_objects(info, record.layers, unit) == set(record.objects)
    framed = dataclasses.replace(info, frames=layer_arrays.FrameShape(n_features=N_FEATURES, unit_frames=8))
    assert unit_objects(framed, [1], 2) == {"layer_01/c/2/0/0", "frames_01/c/2/0"}


def test_a_key_has_a_name_before_it_is_copied(store: LocalStorage, target: LocalStorage) -> None:
    before = contents(target.root)
    with pytest.raises(ConfigError, match="model name"):
        copy_key(store, target, "..", "calls")
    assert contents(target.root) == before


# --- copies are decoded first -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("manifest/c/0", b"garbage"),
        ("manifest/c/0", row_arrays.encode_text("no,manifest\n1,2\n")),
        ("utterance_id/c/0", b"garbage"),
        ("zarr.json", b'{"attributes": {}}'),
        ("ledger/c/0", b"garbage"),
        ("ledger/c/0", row_arrays.encode_text('{"objects": []}', compress=False)),
    ],
)
def test_nothing_of_a_key_is_put_before_it_is_decoded(
    store: LocalStorage, tmp_path: Path, name: str, data: bytes
) -> None:
    store.put(f"{KEY}/{name}", data)
    with pytest.raises(CorruptData):
        copy_key(store, LocalStorage(tmp_path / "copy"), "tiny", "calls")
    assert not (tmp_path / "copy").exists()


def test_a_damaged_entry_of_a_history_is_copied_as_lost(store: LocalStorage, target: LocalStorage) -> None:
    store.put(f"{KEY}/{HISTORY_ARRAY}/zarr.json", history_document())
    store.put(
        f"{KEY}/{HISTORY_ARRAY}/c/0",
        row_arrays.encode_text(json.dumps({"words": ["extract", "x"]})),
    )
    store.put(f"{KEY}/{HISTORY_ARRAY}/c/1", b"raw bytes of somebody")
    store.put(f"{KEY}/{HISTORY_ARRAY}/c/2", row_arrays.encode_text(json.dumps({"words": ["rm", "/"]})))
    copy_key(store, target, "tiny", "calls")
    assert [c.words for c in read_history(target, KEY)] == [("extract", "x"), (), ()]
    assert target.get(f"{KEY}/{HISTORY_ARRAY}/c/0") == store.get(f"{KEY}/{HISTORY_ARRAY}/c/0")
    assert b"somebody" not in (target.get(f"{KEY}/{HISTORY_ARRAY}/c/1") or b"")
    assert verify_key(target, "tiny", "calls").findings == []


def with_shard(storage: LocalStorage, data: bytes) -> None:
    """Put a shard of layer 1, unit 1, and a record that calls for exactly these bytes."""
    name = "layer_01/c/1/0/0"
    storage.put(f"{KEY}/{name}", data)
    n_chunks = read_key(storage, "tiny", "calls").shard_chunks(name)
    crafted(
        storage,
        1,
        lambda r: dataclasses.replace(
            r, objects={**r.objects, name: fast_shards.describe_shard(data, n_chunks)}
        ),
    )


def test_a_shard_is_decoded_before_it_is_put(store: LocalStorage, tmp_path: Path) -> None:
    info = read_key(store, "tiny", "calls")
    sound = bytearray(store.get(SHARD) or b"")
    sound[3] ^= 1  # the chunk's own checksum is wrong now, that of the record is made right
    empty = values_of(1)[8:16].copy()
    empty[2] = np.nan
    copy = LocalStorage(tmp_path / "copy")
    for data, complaint in (
        (bytes(sound), "checksum"),
        (b"no shard at all", "layer_01/c/1/0/0"),
        (fast_shards.encode(info.shape, empty), "1 rows with status ok hold values that are not finite"),
    ):
        with_shard(store, data)
        with pytest.raises(CorruptData, match=complaint):
            copy_key(store, copy, "tiny", "calls")
        assert copy.get(SHARD) is None
        assert copy.get(f"{KEY}/zarr.json") is None  # no such key there


def test_a_copy_is_the_same_bytes(store: LocalStorage, tmp_path: Path) -> None:
    copy = LocalStorage(tmp_path / "copy")
    copy_key(store, copy, "tiny", "calls")
    assert contents(copy.root) == contents(store.root)


# --- links, pipes and devices in a folder -----------------------------------------------------------------

PLACES = [
    "tiny",
    KEY,
    f"{KEY}/layer_01",
    f"{KEY}/layer_01/c/1",
    SHARD,
    f"{KEY}/zarr.json",
    f"{KEY}/manifest/c/0",
]


def moved_out(storage: LocalStorage, name: str) -> Path:
    """Put something of a store elsewhere, and a link to it in its place."""
    away = storage.root.parent / "away"
    (storage.root / name).rename(away)
    (storage.root / name).symlink_to(away)
    return away


def state(path: Path) -> object:
    return contents(path) if path.is_dir() else path.read_bytes()


@pytest.fixture(params=["in one call", "folder by folder"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How paths are opened: by Linux at once, or where the kernel knows no such call."""
    if request.param == "folder by folder":
        monkeypatch.setattr(contained_files, "_OPENAT2", 9999)


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("name", PLACES)
def test_nothing_is_reached_through_a_link(store: LocalStorage, target: LocalStorage, name: str) -> None:
    away = moved_out(store, name)
    before, there = state(away), contents(store.root)
    inside = next((n for n in (SHARD, f"{KEY}/zarr.json", f"{KEY}/manifest/c/0") if n.startswith(name)), name)
    for operation in (
        lambda: store.get(inside),
        lambda: store.put(inside, b"x"),
        lambda: store.put(inside, b"x", if_absent=True),
        lambda: store.read_into(inside, [np.empty(4, np.uint8)]),
        lambda: store.read_parts(inside, [(0, 4)]),
        lambda: store.zarr_store().get_sync(inside),  # type: ignore[attr-defined]
    ):
        with pytest.raises(StoreError, match=r"is a symbolic link to .*away; inside a store nothing"):
            operation()
    if name != inside:
        with pytest.raises(StoreError, match="is a symbolic link"):
            store.delete(inside)
        with pytest.raises(StoreError, match="is a symbolic link"):
            store.children(name)
    assert state(away) == before
    assert contents(store.root) == there
    assert "is a symbolic link to" in refused("cp", store.url, target.url)
    assert not (target.root / KEY / "zarr.json").exists()


@pytest.mark.parametrize("name", [f"{KEY}/layer_01", f"{KEY}/layer_01/c/1", SHARD, f"{KEY}/ledger_sealed"])
def test_verify_says_what_is_a_link_and_repair_leaves_it(store: LocalStorage, name: str) -> None:
    away = moved_out(store, name)
    before, there = state(away), contents(store.root)
    report = verify_key(store, "tiny", "calls", repair=True)
    assert [(f.kind, f.object) for f in report.findings] == [("damaged", name)]
    assert "a symbolic link to" in report.findings[0].message
    assert not report.is_mended
    assert state(away) == before
    assert contents(store.root) == there
    result = run("verify", store.url, "--repair")
    assert (result.exit_code, result.stderr) == (1, "")
    assert contents(store.root) == there


def test_a_layer_behind_a_link_is_not_read_whole_or_sparse(store: LocalStorage) -> None:
    layer = open_store(store.url).features("tiny", "calls").layer(1)
    array = layer.zarr
    np.testing.assert_array_equal(array[:], values_of(1))
    moved_out(store, f"{KEY}/layer_01")
    assert open_store(store.url).features("tiny", "calls").layer(0).numpy().shape == (N_ROWS, 2, N_FEATURES)
    for read in (
        layer.numpy,
        lambda: layer.numpy([9]),
        lambda: array[:],
        lambda: array.oindex[[9]],
        lambda: layer.zarr,
        lambda: open_array(store, f"{KEY}/layer_01"),
    ):
        with pytest.raises(StoreError, match="is a symbolic link"):
            read()


def test_the_zarrs_pipeline_reads_through_no_link(store: LocalStorage) -> None:
    pytest.importorskip("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        array = open_store(store.url).features("tiny", "calls").layer(1).zarr
        np.testing.assert_array_equal(array[:], values_of(1))
        moved_out(store, SHARD)
        with pytest.raises(StoreError, match="is a symbolic link"):
            array[:]


def test_what_is_extracted_goes_through_no_link(store: LocalStorage) -> None:
    """A layer's folder that is prepared as a link, before the layer is made."""
    aim = store.root.parent / "aim"
    (aim / "c/0/0").mkdir(parents=True)
    (aim / "c/0/0/0").write_bytes(b"precious")
    (aim / "zarr.json").write_bytes(b"precious")
    (store.root / KEY / "layer_05").symlink_to(aim)
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    before = contents(aim)
    with pytest.raises(StoreError, match="layer_05 is a symbolic link"):
        open_key(store, request(layers=(*LAYERS, 5)), manifest, ids)
    assert contents(aim) == before
    np.testing.assert_array_equal(
        open_store(store.url).features("tiny", "calls").layer(3).numpy(), values_of(3)
    )


def test_a_copy_goes_through_no_link_of_the_target(store: LocalStorage, target: LocalStorage) -> None:
    aim = store.root.parent / "aim"
    aim.mkdir()
    (target.root / KEY).mkdir(parents=True)
    (target.root / KEY / "layer_01").symlink_to(aim)
    assert "layer_01 is a symbolic link" in refused("cp", store.url, target.url)
    assert contents(aim) == {}
    assert verify_key(target, "tiny", "other").findings == []


def test_removing_a_key_removes_its_links_and_not_what_they_point_to(store: LocalStorage) -> None:
    aim = store.root.parent / "aim"
    aim.mkdir()
    (aim / "precious").write_bytes(b"precious")
    (store.root / KEY / "note").symlink_to(aim / "precious")
    (store.root / KEY / "nowhere").symlink_to("gone")
    os.mkfifo(store.root / KEY / "pipe")
    away = moved_out(store, f"{KEY}/layer_01")
    before = contents(away)
    result = run("rm", store.url, "--model", "tiny", "--dataset", "calls", "--yes")
    assert result.exit_code == 0, result.output
    assert contents(store.root) == {"zarr.json": contents(store.root)["zarr.json"]}
    assert contents(away) == before
    assert contents(aim) == {"precious": hashlib.sha256(b"precious").hexdigest()}


@pytest.mark.parametrize("name", ["tiny", KEY])
def test_a_key_that_is_a_link_is_not_removed(store: LocalStorage, name: str) -> None:
    away = moved_out(store, name)
    before, there = contents(away), contents(store.root)
    line = refused("rm", store.url, "--model", "tiny", "--dataset", "calls", "--yes")
    assert "is a symbolic link to" in line
    with pytest.raises(StoreError, match="is a symbolic link"):
        delete_key(store, "tiny", "calls")
    assert contents(away) == before
    assert contents(store.root) == there


def test_a_file_whose_name_is_none_stops_a_removal_before_it_begins(store: LocalStorage) -> None:
    (store.root / KEY / "a\\b").write_bytes(b"x")
    before = contents(store.root)
    with pytest.raises(StoreError, match="outside the store"):
        delete_key(store, "tiny", "calls")
    assert contents(store.root) == before


@pytest.mark.usefixtures("opened")
def test_a_root_is_written_read_listed_and_emptied(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "new")
    for name in ("zarr.json", "a/b/c/0", "a/b/1"):
        assert storage.put(name, name.encode())
        assert storage.put(name, b"late", if_absent=True) is False
    assert dict(storage.objects("")) == {"zarr.json": 9, "a/b/c/0": 7, "a/b/1": 5}
    assert [storage.get(name) for name in ("zarr.json", "a/b/c/0")] == [b"zarr.json", b"a/b/c/0"]
    assert {storage.get(name) for name in ("none", "a/none/0", "zarr.json/0", "a/b/1/c/0")} == {None}
    assert storage.children("a/b") == ["1", "c"]
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        storage.put("a/b/1/c", b"x")
    for name in ("zarr.json", "a/b/c/0", "a/b/1"):
        storage.delete(name)
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.usefixtures("opened")
def test_a_folder_in_the_place_of_a_file_is_named_by_all_that_read(store: LocalStorage) -> None:
    for read in (
        lambda: store.get(f"{KEY}/layer_01"),
        lambda: store.read_into(f"{KEY}/layer_01", [np.empty(4, np.uint8)]),
        lambda: store.read_parts(f"{KEY}/layer_01", [(0, 4)]),
    ):
        with pytest.raises(NotPlain, match="layer_01 is a folder, where a file of a store belongs"):
            read()
    assert sync(store.zarr_store().get(f"{KEY}/layer_01", default_buffer_prototype())) is None


@pytest.mark.usefixtures("opened")
def test_a_folder_that_becomes_a_link_while_it_is_read_leads_nowhere(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")
    storage.put("a/b/c/0", b"mine")
    inside, aside = storage.root / "a/b", storage.root / "a/aside"
    (tmp_path / "away/c").mkdir(parents=True)
    (tmp_path / "away/c/0").write_bytes(b"theirs")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            inside.rename(aside)
            with contextlib.suppress(FileExistsError):  # a writer was quicker
                inside.symlink_to(tmp_path / "away")
                inside.unlink()
            shutil.rmtree(inside, ignore_errors=True)
            with contextlib.suppress(OSError):
                aside.rename(inside)
                continue
            shutil.rmtree(aside)

    found: set[bytes | None] = set()
    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(swap)
        for turn in range(1000):
            with contextlib.suppress(StoreError):
                found.add(storage.get("a/b/c/0"))
            if turn % 10 == 0:
                with contextlib.suppress(StoreError):
                    storage.put("a/b/c/0", b"mine")
        done.set()
        swapping.result()
    assert b"mine" in found
    assert found <= {b"mine", None}
    assert contents(tmp_path / "away") == {"c/0": hashlib.sha256(b"theirs").hexdigest()}


def test_a_file_is_opened_in_two_calls_however_deep_it_lies(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a layer opens a shard of every unit, and each open lets other threads in between."""
    if not contained_files._HAS_OPENAT2:
        pytest.skip("this system opens folder by folder")
    calls: list[object] = []
    for module, name in ((os, "open"), (contained_files, "_syscall")):
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _whole=whole, **k: calls.append(a) or _whole(*a, **k))
    assert store.get(SHARD)
    assert len(calls) == 2


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("name", [SHARD, f"{KEY}/zarr.json", f"{KEY}/ledger_sealed/c/0/0", "zarr.json"])
def test_a_pipe_is_not_waited_for(store: LocalStorage, target: LocalStorage, name: str) -> None:
    (store.root / name).unlink()
    os.mkfifo(store.root / name)
    for operation in (
        lambda: store.get(name),
        lambda: store.put(name, b"x"),
        lambda: store.read_into(name, [np.empty(4, np.uint8)]),
        lambda: store.zarr_store().get_sync(name),  # type: ignore[attr-defined]
    ):
        with pytest.raises(StoreError, match="is a named pipe"):
            operation()
    assert "is a named pipe" in refused("cp", store.url, target.url)


def test_verify_says_what_is_a_pipe_or_a_link_that_is_in_nobodys_way(store: LocalStorage) -> None:
    os.mkfifo(store.root / KEY / "pipe")
    (store.root / KEY / "note").symlink_to("/etc/hostname")
    there = contents(store.root)
    report = verify_key(store, "tiny", "calls", repair=True)
    assert [(f.kind, f.object) for f in report.findings] == [
        ("foreign", f"{KEY}/note"),
        ("foreign", f"{KEY}/pipe"),
    ]
    assert report.is_intact
    assert contents(store.root) == there
    os.mkfifo(store.root / KEY / "claims/c")
    report = verify_key(store, "tiny", "calls", repair=True)
    assert [(f.kind, f.object) for f in report.findings] == [("damaged", f"{KEY}/claims/c")]
    assert report.n_committed == 3


def test_a_store_may_be_a_link_itself(store: LocalStorage, target: LocalStorage) -> None:
    link = store.root.parent / "link"
    link.symlink_to(store.root)
    linked = LocalStorage(link)
    assert linked.get(SHARD) == store.get(SHARD)
    assert verify_key(linked, "tiny", "calls", repair=True).findings == []
    layer = open_store(link).features("tiny", "calls").layer(1)
    np.testing.assert_array_equal(layer.numpy([9]), values_of(1)[[9]])
    copy_key(linked, target, "tiny", "calls")
    delete_key(linked, "tiny", "calls")
    assert os.listdir(store.root) == ["zarr.json"]
    assert link.is_symlink()


def test_a_key_whose_ledger_is_damaged_is_verified_and_removed(store: LocalStorage) -> None:
    store.put(f"{KEY}/ledger/c/0", b"garbage")
    result = run("verify", store.url)
    assert (result.exit_code, result.stderr) == (1, "")
    assert f"damaged: {KEY}/ledger/c/0" in result.output
    assert run("rm", store.url, "--model", "tiny", "--dataset", "calls", "--yes").exit_code == 0
    assert list(store.objects("")) == [("zarr.json", len(store.get("zarr.json") or b""))]
    assert "no key tiny/calls" in refused("rm", store.url, "--model", "tiny", "--dataset", "calls", "--yes")


def test_zarr_finds_its_way_in_a_store(store: LocalStorage) -> None:
    """As it did through its own kind of store: groups, ranges, what is there and what is a folder."""
    root = zarr.open_group(store.zarr_store(), mode="r")
    assert sorted(root["tiny"].group_keys()) == ["calls"]
    assert sorted(root["tiny/calls"].array_keys()) == sorted(
        n for n in store.children(KEY) if n != "zarr.json"
    )
    ours, plain = store.zarr_store(), zarr.storage.LocalStore(store.root, read_only=True)
    prototype = default_buffer_prototype()
    whole = store.get(SHARD) or b""
    for wanted, expected in (
        (None, whole),
        (RangeByteRequest(3, 9), whole[3:9]),
        (RangeByteRequest(3, 10**6), whole[3:]),
        (OffsetByteRequest(40), whole[40:]),
        (SuffixByteRequest(36), whole[-36:]),
        (SuffixByteRequest(10**6), whole),
    ):
        found = sync(ours.get(SHARD, prototype, wanted))
        assert found is not None
        assert found.to_bytes() == expected
    for name in (KEY, f"{SHARD}/x", "nothing"):
        assert sync(ours.get(name, prototype)) is None
        assert not sync(ours.exists(name))
    assert sync(ours.exists(SHARD))
    assert sync(ours.getsize(SHARD)) == sync(plain.getsize(SHARD)) == len(whole)
    with pytest.raises(ValueError, match="through featurestore"):
        ours.with_read_only(False)


def test_a_link_to_a_file_beside_the_keys_hides_none(store: LocalStorage) -> None:
    (store.root / "README").symlink_to("/etc/hostname")
    (store.root / "tiny/README").symlink_to("/etc/hostname")
    assert open_store(store.url).keys() == [("tiny", "calls")]


def test_a_checksum_of_a_crafted_record_is_right(store: LocalStorage) -> None:
    """What the tests above rely on: it is its names that are refused, not its bytes."""
    crafted(store, 0, lambda record: record)
    data = store.get(f"{KEY}/ledger/c/0") or b""
    assert int.from_bytes(data[-4:], "little") == google_crc32c.value(data[:-4])
    assert verify_key(store, "tiny", "calls").is_intact
