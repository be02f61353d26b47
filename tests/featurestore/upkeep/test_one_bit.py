"""What one flipped bit does, anywhere in a store: it is found, changes no number, and is mended.

One bit is flipped in some objects by default, and two in every one in the slow part. With ``FLIP_BITS=3`` in
the environment that flips three bits of every byte instead, which takes hours.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from featurestore import open_store
from featurestore.backends.storage import MemoryStorage, Storage
from featurestore.calls import Call
from featurestore.errors import CorruptData, StoreError
from featurestore.format import row_arrays
from featurestore.store.history import record_call
from featurestore.store.ledger import Record, read_ledger, withdraw
from featurestore.store.writer import open_key
from featurestore.upkeep.verification import verify_key, verify_root
from tests.featurestore.scenario import UNIT_ROWS, manifest_of, request, values_of, write

KEY = "tiny/calls"
N_ROWS, LAYERS = UNIT_ROWS + 3, (0, 1)


def opened(storage: Storage) -> None:
    """The extraction that makes the store, and makes again what is not there."""
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(storage, request(layers=LAYERS), manifest, ids)
    write(writer, {k: values_of(k, N_ROWS) for k in LAYERS})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    monkeypatch.setattr("featurestore.upkeep.verification.LOOK_AGAIN_S", 0)
    storage = MemoryStorage(str(tmp_path))
    opened(storage)
    info = open_store(storage.url).features("tiny", "calls").info
    record_call(storage, info, Call(words=("fs", "extract"), table=""))
    return storage


def numbers(storage: Storage) -> dict[str, object] | None:
    """Everything that a reader gets; None where it is refused."""
    try:
        features = open_store(storage.url).features("tiny", "calls")
        return {
            "index": features.index.to_json(),
            "fingerprint": json.dumps(features.attrs["fingerprint"]),
            **{str(k): features.layer(k).numpy().tobytes() for k in features.layers},
        }
    except StoreError as error:
        said = str(error)
    assert "\n" not in said
    return None


def is_json_like_before(name: str, data: bytes, whole: bytes) -> bool:
    """Whether a changed document says the same: another case of an exponent or of an escape's digits."""
    if not name.endswith("zarr.json"):
        return False
    try:
        return bool(json.loads(data) == json.loads(whole))
    except ValueError:
        return False


def timeless(records: dict[int, Record]) -> dict[int, Record]:
    return {u: dataclasses.replace(r, started_at="") for u, r in records.items()}


def check_flips(storage: Storage, flips: list[tuple[str, int, int]]) -> None:
    before = {name: storage.get(name) or b"" for name, _ in storage.objects("")}
    wanted, records = numbers(storage), timeless(read_ledger(storage, KEY))
    for name, at, bit in flips:
        whole = before[name]
        data = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
        storage.put(name, data)
        where = (name, at, bit)
        assert numbers(storage) in (wanted, None), where
        found = [
            f.object
            for f in (*verify_root(storage, ["tiny"]), *verify_key(storage, "tiny", "calls").findings)
            if f.is_damage
        ]
        assert (name in found) or is_json_like_before(name, data, whole), where
        verify_root(storage, ["tiny"], repair=True)
        verify_key(storage, "tiny", "calls", repair=True)
        opened(storage)
        assert numbers(storage) == wanted, where
        assert timeless(read_ledger(storage, KEY)) == records, where
        assert not [f for f in verify_key(storage, "tiny", "calls").findings if f.is_damage], where
        after = {n: storage.get(n) for n, _ in storage.objects("")}
        assert after.keys() == before.keys(), where
        # A record says when its unit was made, and a lost call stays lost; all else is as it was.
        differ = {
            n
            for n in before
            if after[n] != before[n] and not is_json_like_before(n, after[n] or b"", before[n])
        }
        assert {n.split("/c/")[0] for n in differ} <= {f"{KEY}/ledger_sealed", f"{KEY}/history"}, where
        for n in before:
            storage.put(n, before[n])


def some_bits(storage: Storage, per_object: int) -> list[tuple[str, int, int]]:
    rng = random.Random(7)
    return [
        (name, rng.randrange(size), rng.randrange(8))
        for name, size in sorted(storage.objects(""))
        for _ in range(per_object)
    ]


def test_a_flipped_bit_is_found_changes_no_number_and_is_mended(store: MemoryStorage) -> None:
    check_flips(store, some_bits(store, 1)[::4])


@pytest.mark.slow
def test_flipped_bits_are_found_change_no_number_and_are_mended(store: MemoryStorage) -> None:
    if bits := int(os.environ.get("FLIP_BITS", "0")):
        rng = random.Random(8)
        names = [(name, at) for name, size in sorted(store.objects("")) for at in range(size)]
        check_flips(store, [(name, at, bit) for name, at in names for bit in rng.sample(range(8), bits)])
    else:
        check_flips(store, some_bits(store, 2))


def sealed(storage: Storage, copy: int) -> str:
    return f"{KEY}/ledger_sealed/c/{copy}/0"


def lose_the_ledger(storage: Storage) -> None:
    for copy in (0, 1):
        data = storage.get(sealed(storage, copy)) or b""
        storage.put(sealed(storage, copy), b"\0" * len(data))


def test_records_of_which_both_copies_are_lost_are_told_from_columns_and_shards(store: MemoryStorage) -> None:
    wanted, records = numbers(store), read_ledger(store, KEY)
    shards = {n: store.get(n) for n, _ in store.objects("") if "/layer_" in n}
    lose_the_ledger(store)
    with pytest.raises(CorruptData, match="run `fs verify --repair`"):
        open_store(store.url).features("tiny", "calls")
    assert not verify_key(store, "tiny", "calls").is_intact
    report = verify_key(store, "tiny", "calls", repair=True)
    assert report.is_mended
    assert any("2 records told from the columns and the shards" in line for line in report.repaired)
    assert {n: store.get(n) for n in shards} == shards
    assert numbers(store) == wanted
    assert verify_key(store, "tiny", "calls").findings == []
    for unit, told in read_ledger(store, KEY).items():
        known = ("layers", "objects", "rows", "first_row", "n_rows")
        assert [getattr(told, n) for n in known] == [getattr(records[unit], n) for n in known]


@pytest.mark.parametrize("spoil", ["status", "shard", "withdrawn"])
def test_what_cannot_be_proved_is_done_again(store: MemoryStorage, spoil: str) -> None:
    wanted, records = numbers(store), timeless(read_ledger(store, KEY))
    if spoil == "status":
        store.put(f"{KEY}/status/c/0", b"rubbish")
    elif spoil == "shard":
        data = store.get(f"{KEY}/layer_01/c/1/0/0") or b""
        store.put(f"{KEY}/layer_01/c/1/0/0", data[:9] + bytes([data[9] ^ 1]) + data[10:])
    else:
        # Its record is gone before anything else happens: what the columns showed of it must be, too.
        withdraw(store, KEY, {1})
    lose_the_ledger(store)
    report = verify_key(store, "tiny", "calls", repair=True)
    assert report.is_mended
    told = set(read_ledger(store, KEY))
    assert told == (set() if spoil == "status" else {0})
    opened(store)
    assert numbers(store) == wanted
    assert verify_key(store, "tiny", "calls").findings == []
    assert {u: r.rows for u, r in read_ledger(store, KEY).items()} == {u: r.rows for u, r in records.items()}


def test_a_damaged_entry_is_mended_by_doing_its_unit_again(tmp_path: Path) -> None:
    store = MemoryStorage(str(tmp_path))
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(store, request(layers=LAYERS), manifest, ids)
    write(writer, {k: values_of(k, N_ROWS) for k in LAYERS}, only=[0])
    store.put(f"{KEY}/ledger/c/0", b"rubbish")
    report = verify_key(store, "tiny", "calls", repair=True)
    assert [f.unit for f in report.findings if f.is_damage] == [0]
    assert report.is_mended
    opened(store)
    features = open_store(store.url).features("tiny", "calls")
    np.testing.assert_array_equal(features.layer(1).numpy(), values_of(1, N_ROWS))


def test_each_record_is_taken_from_the_copy_in_which_it_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage in one place of one copy and in another of the other loses nothing."""
    monkeypatch.setattr("featurestore.format.row_arrays.UNITS_PER_CHUNK", 1)
    monkeypatch.setattr("featurestore.format.row_arrays.UNITS_PER_OBJECT", 2)
    monkeypatch.setattr("featurestore.format.row_arrays._sealed", row_arrays._sealed.__wrapped__)
    store = MemoryStorage(str(tmp_path))
    opened(store)
    wanted, records = numbers(store), read_ledger(store, KEY)
    for copy, unit in ((0, 0), (1, 1)):
        data = store.get(sealed(store, copy)) or b""
        # Chunks stand in the order of the units: the first one at the front, the second before the index.
        index = len(data) - 4 - 16 * 2
        at = 20 if not unit else index - 20
        store.put(sealed(store, copy), data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert read_ledger(store, KEY) == records
    assert numbers(store) == wanted
    report = verify_key(store, "tiny", "calls", repair=True)
    assert {f.object for f in report.findings if f.is_damage} == {sealed(store, 0), sealed(store, 1)}
    assert report.is_mended
    assert not any("withdrawn" in line for line in report.repaired)
    assert verify_key(store, "tiny", "calls").findings == []
    assert read_ledger(store, KEY) == records
