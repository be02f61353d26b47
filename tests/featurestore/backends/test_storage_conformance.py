"""What every kind of root does alike: on a folder, in memory, and on a real S3 server."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

from featurestore.backends.storage import LocalStorage, MemoryStorage, Storage, open_storage
from featurestore.errors import StoreError

NewStorage = Callable[[], Storage]


def noise(n_bytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, n_bytes, dtype=np.uint8).tobytes()


def test_an_empty_root(storage: Storage) -> None:
    assert storage.get("a/b") is None
    assert list(storage.objects("")) == []
    assert list(storage.objects("a")) == []
    assert storage.children("") == []
    assert storage.children("a/b") == []
    storage.delete("a/b")


def test_put_get_overwrite_delete(storage: Storage) -> None:
    assert storage.put("m/d/zarr.json", b"one") is True
    assert storage.get("m/d/zarr.json") == b"one"
    assert storage.put("m/d/zarr.json", b"") is True
    assert storage.get("m/d/zarr.json") == b""
    storage.put("m/d/zarr.json", b"three")
    storage.delete("m/d/zarr.json")
    assert storage.get("m/d/zarr.json") is None
    assert list(storage.objects("m")) == []
    storage.delete("m/d/zarr.json")


def test_a_prefix_is_whole_names(storage: Storage) -> None:
    storage.put("m/d/c/0", b"x")
    storage.put("m/d2/c/0", b"y")
    # Whole names only: m/d is no prefix of m/d2.
    assert [k for k, _ in storage.objects("m/d")] == ["m/d/c/0"]
    assert storage.children("m") == ["d", "d2"]


def test_listings_are_relative_sized_and_deep(storage: Storage) -> None:
    sizes = {"zarr.json": 3, "m/zarr.json": 1, "m/d/layer_00/c/0/0/0": 5000, "m/d/layer_00/c/10/0/0": 0}
    for key, n in sizes.items():
        storage.put(key, noise(n))
    assert dict(storage.objects("")) == sizes
    assert dict(storage.objects("m/d/")) == {k: n for k, n in sizes.items() if k.startswith("m/d/")}
    assert storage.children("") == ["m", "zarr.json"]
    assert storage.children("m") == ["d", "zarr.json"]
    assert storage.children("m/d/layer_00/c/") == ["0", "10"]


def test_more_objects_than_one_page_of_a_listing(storage: Storage) -> None:
    keys = [f"m/d/status/c/{i}" for i in range(1050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: storage.put(key, b"."), keys))
    assert sorted(k for k, _ in storage.objects("m")) == sorted(keys)
    assert storage.children("m/d/status/c") == sorted(str(i) for i in range(1050))


def test_every_character_a_name_may_hold(storage: Storage) -> None:
    name = "A-Z_a.z+0=9@x"
    storage.put(f"{name}/{name}/zarr.json", b"x")
    assert open_storage(storage.url).get(f"{name}/{name}/zarr.json") == b"x"
    assert storage.children(name) == [name]
    assert list(storage.objects(name)) == [(f"{name}/{name}/zarr.json", 1)]


def test_a_large_object(storage: Storage) -> None:
    data = noise(24_000_000)
    storage.put("m/d/layer_00/c/0/0/0", data)
    assert storage.get("m/d/layer_00/c/0/0/0") == data
    assert list(storage.objects("m")) == [("m/d/layer_00/c/0/0/0", len(data))]


@pytest.mark.parametrize(
    "key",
    ["../x", "a/../../x", "a/../b", "..", "/a", "/etc/passwd", "a//b", "./a", "a/.", "a\\..\\b", "a\0b", ""],
)
def test_names_that_may_lie_outside_the_root_are_refused(storage: Storage, key: str) -> None:
    storage.put("b", b"mine")
    operations: list[Callable[[], object]] = [
        lambda: storage.get(key),
        lambda: storage.put(key, b"x"),
        lambda: storage.put(key, b"x", if_absent=True),
        lambda: storage.delete(key),
    ]
    if key:  # as a prefix it is the root
        operations += [
            lambda: list(storage.objects(key)),
            lambda: storage.children(key),
            lambda: list(storage.strangers(key)),
        ]
    for operation in operations:
        with pytest.raises(StoreError, match="outside the store"):
            operation()
    for name in (f"{key}/", f"a/{key}"):
        with pytest.raises(StoreError, match="outside the store"):
            storage.get(name)
    assert list(storage.objects("")) == [("b", 4)]
    assert storage.get("b") == b"mine"


def test_zarr_is_handed_nothing_from_outside_the_root(storage: Storage) -> None:
    storage.put("b", b"mine")
    prototype = default_buffer_prototype()
    for key in ("../x", "a/../b", "/b", "a//b"):
        # Memory is a dictionary of names, of which none is like this.
        with contextlib.suppress(StoreError):
            assert zarr.core.sync.sync(storage.zarr_store().get(key, prototype)) is None
            assert isinstance(storage, MemoryStorage)


def test_an_ordinary_root_holds_no_strangers(filled: Storage) -> None:
    assert list(filled.strangers("")) == []
    assert list(filled.strangers("tiny/calls")) == []


def test_the_same_url_is_the_same_root(storage: Storage) -> None:
    storage.put("a", b"1")
    again = open_storage(storage.url)
    assert again.get("a") == b"1"
    assert pickle.loads(pickle.dumps(storage)).get("a") == b"1"


def test_if_absent_of_many_writers_one_wins(new_storage: NewStorage) -> None:
    n = 4
    barrier = threading.Barrier(n)

    def claim(i: int, key: str) -> bool:
        storage = new_storage()
        barrier.wait()
        return storage.put(key, str(i).encode(), if_absent=True)

    with ThreadPoolExecutor(n) as pool:
        for turn in range(3):
            key = f"claims/{turn}"
            wins = list(pool.map(claim, range(n), [key] * n))
            assert sum(wins) == 1
            assert new_storage().get(key) == str(wins.index(True)).encode()
            assert not new_storage().put(key, b"late", if_absent=True)


def test_a_reader_sees_the_old_bytes_or_the_new_ones(new_storage: NewStorage) -> None:
    """Overwriting an object, of several parts on any server, is never seen half done."""
    versions = [bytes([i]) * (5_000_000 + i) for i in range(4)]
    new_storage().put("a/b", versions[0])
    stop = threading.Event()
    seen: set[int] = set()
    torn: list[int] = []

    def read() -> None:
        storage = new_storage()
        while not stop.is_set():
            data = storage.get("a/b")
            if data is None or data != versions[data[0]]:
                torn.append(-1 if data is None else len(data))
                return
            seen.add(data[0])

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        deadline = time.monotonic() + 20
        for n, version in enumerate(itertools.cycle(versions)):
            new_storage().put("a/b", version)
            if (n > 10 and len(seen) > 2) or torn or time.monotonic() > deadline:
                break
        stop.set()
        for reader in readers:
            reader.result()
    assert not torn
    assert len(seen) > 2


def test_zarr_reads_the_objects_and_cannot_write(storage: Storage) -> None:
    source = zarr.storage.MemoryStore()
    values = np.arange(600, dtype=np.float32).reshape(100, 6)
    zarr.create_array(source, data=values, shards=(40, 6), chunks=(10, 6))
    for key, buffer in source._store_dict.items():
        storage.put(f"m/d/{key}", buffer.to_bytes())
    array = zarr.open_array(storage.zarr_store(), path="m/d", mode="r")
    np.testing.assert_array_equal(array[:], values)
    np.testing.assert_array_equal(array[37:43, 2], values[37:43, 2])
    np.testing.assert_array_equal(array.oindex[[3, 99]], values[[3, 99]])
    again = (
        pickle.loads(pickle.dumps(storage.zarr_store())) if not isinstance(storage, MemoryStorage) else None
    )
    if again is not None:
        np.testing.assert_array_equal(zarr.open_array(again, path="m/d", mode="r")[:3], values[:3])
    with pytest.raises(ValueError, match="read-only"):
        zarr.create_array(storage.zarr_store(), name="other", shape=(3,), dtype="int8")
    buffer = default_buffer_prototype().buffer.from_bytes(b"x")
    with pytest.raises(ValueError, match="read-only"):
        zarr.core.sync.sync(storage.zarr_store().set("m/d/zarr.json", buffer))


def test_what_vanishes_while_it_is_listed_hides_nothing_else(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    names = {f"a/{i:02d}" for i in range(20)} | {f"b/{i}/c" for i in range(3)}
    for name in names:
        storage.put(name, b"x")
    listed = set()
    for key, _ in storage.objects(""):
        if not listed:  # others delete all but one of what is not handed out yet, folders and all
            gone = {n for n in names if n not in (key, "a/07", "b/1/c")}
            for name in gone:
                storage.delete(name)
        listed.add(key)
    assert {"a/07", "b/1/c"} <= listed


def test_a_folder_that_may_not_be_listed_is_an_error_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a/b", b"x")

    def refused(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    monkeypatch.setattr(os, "listdir", refused)
    for listing in (lambda: list(storage.objects("")), lambda: storage.children("a")):
        with pytest.raises(StoreError, match=r"cannot list .*Permission denied"):
            listing()


def test_if_absent_of_an_object_that_is_deleted_just_then_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("claims/0", b"theirs")
    link = os.link

    def link_then_gone(source: object, target: object, **folders: object) -> None:
        try:
            link(source, target, **folders)  # type: ignore[arg-type]
        except FileExistsError:
            storage.delete("claims/0")
            raise

    monkeypatch.setattr(os, "link", link_then_gone)
    assert storage.put("claims/0", b"mine", if_absent=True) is False
    assert storage.put("claims/0", b"mine", if_absent=True) is True
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        storage.put("file/0", b"x", if_absent=True)


def test_a_temporary_file_that_is_cleared_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    fsync, cleared = os.fsync, []

    def cleared_after(descriptor: int) -> None:
        fsync(descriptor)
        if len(cleared) < 2:
            cleared.extend(tmp_path.rglob(".*.partial"))
            for path in tmp_path.rglob(".*.partial"):
                path.unlink()

    monkeypatch.setattr(os, "fsync", cleared_after)
    assert storage.put("a/b", b"one")
    assert storage.put("a/c", b"two", if_absent=True)
    assert len(cleared) == 2
    assert (storage.get("a/b"), storage.get("a/c")) == (b"one", b"two")
    assert list(tmp_path.rglob(".*.partial")) == []


def test_an_object_is_read_into_more_buffers_than_the_system_takes_at_once(tmp_path: Path) -> None:
    """A shard of a large unit: two buffers for each of its chunks."""
    storage, data = LocalStorage(tmp_path), noise(5000)
    storage.put("a", data)
    buffers = [np.zeros(i % 4, np.uint8) for i in range(3000)]
    assert storage.read_into("a", buffers) == 5000
    assert b"".join(b.tobytes() for b in buffers) == data[: sum(b.nbytes for b in buffers)]
