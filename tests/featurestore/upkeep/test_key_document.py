"""The document of a key is part of what is verified: one changed number in it never changes an answer."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore import open_store
from featurestore.backends.storage import MemoryStorage, Storage
from featurestore.errors import CorruptData, UnknownFormat, UserError
from featurestore.format import layer_arrays
from featurestore.store.key import CHECKSUM, COPY_NAME, KeyInfo, find_keys, read_key
from featurestore.store.plan import Segment
from featurestore.store.writer import open_key
from featurestore.store.zarr_documents import key_document, put_documents
from featurestore.upkeep.verification import verify_key
from tests.featurestore.scenario import LAYERS, N_ROWS, fill, manifest_of, request, values_of, write

KEY = "tiny/calls"
OWN, COPY = f"{KEY}/zarr.json", f"{KEY}/ledger/zarr.json"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    """A filled root, which nobody else writes to."""
    monkeypatch.setattr("featurestore.upkeep.verification.LOOK_AGAIN_S", 0)
    storage = MemoryStorage(str(tmp_path))
    fill(storage)
    return storage


def objects(storage: Storage) -> dict[str, bytes | None]:
    return {name: storage.get(name) for name, _ in storage.objects("")}


def change(storage: Storage, name: str, path: str, value: Any) -> None:
    """Set one value of a document; `path` leads to it by dots."""
    data = storage.get(name)
    assert data is not None
    document = json.loads(data)
    *parents, last = path.split(".")
    inner = document
    for parent in parents:
        inner = inner[parent]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    storage.put(name, json.dumps(document).encode())


def forget_checksums(storage: Storage) -> None:
    """Make the documents those of a version that kept neither a checksum nor a copy."""
    change(storage, OWN, f"attributes.feature_store.{CHECKSUM}", None)
    change(storage, COPY, f"attributes.{COPY_NAME}", None)


CHANGES: list[tuple[str, Any]] = [
    ("plan.segments", [[0, 8]]),
    ("plan.segments", [[0, 23], [24, 8]]),
    ("plan.segments", [[0, 8], [0, 23]]),
    ("plan.unit_rows", 24),
    ("plan.unit_rows", 4),
    ("plan.chunk_rows", 4),
    ("dtype", "float16"),
    ("codec", "raw"),
    ("n_features", 3),
    ("layers", [0, 1]),
    ("functionals", ["mean"]),
    ("functionals", ["std", "mean"]),
    ("fingerprint.model.weights_sha256", "01"),
    ("frames", {"unit_frames": 8, "chunk_frames": 8, "dtype": "float16"}),
    ("versions", {"numpy": "1"}),
    ("feature_store.format", "featurestorf"),
]


@pytest.mark.parametrize(("path", "value"), CHANGES, ids=lambda v: str(v)[:24])
def test_a_changed_attribute_is_damage_and_is_restored_and_nothing_recorded_is_touched(
    store: MemoryStorage, path: str, value: Any
) -> None:
    before = objects(store)
    change(store, OWN, f"attributes.{path}", value)
    with pytest.raises(
        CorruptData, match=r"tiny/calls/zarr.json is damaged .*`fs verify --repair` restores it"
    ):
        open_store(store.url).features("tiny", "calls")
    found = [f for f in verify_key(store, "tiny", "calls").findings if f.is_damage]
    assert [f.object for f in found] == [OWN]
    report = verify_key(store, "tiny", "calls", repair=True)
    assert report.is_mended
    assert report.repaired == [f"restored {OWN}"]
    assert objects(store) == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("plan.segments", [[0, 8]]),
        ("plan.segments", [[0, 16], [16, 5]]),
        ("plan.unit_rows", 24),
        ("plan.chunk_rows", 4),
        ("dtype", "float16"),
        ("codec", "raw"),
        ("n_features", 3),
        ("functionals", ["mean"]),
    ],
    ids=lambda v: str(v)[:24],
)
@pytest.mark.parametrize("kind", ["of an earlier version", "with a checksum of its own"])
def test_arrays_and_ledger_speak_against_a_document_that_is_sound_by_itself(
    store: MemoryStorage, path: str, value: Any, kind: str
) -> None:
    info = read_key(store, "tiny", "calls")
    change(store, OWN, f"attributes.{path}", value)
    if kind == "of an earlier version":
        change(store, OWN, "attributes.fingerprint.functionals", ["mean", "std"])
        info = dataclasses.replace(info, fingerprint={**info.fingerprint, "functionals": ["mean", "std"]})
        forget_checksums(store)
    else:
        change(store, OWN, f"attributes.feature_store.{CHECKSUM}", None)
        data = store.get(OWN)
        assert data is not None
        told = KeyInfo.from_attributes("tiny", "calls", json.loads(data)["attributes"])
        store.put(OWN, key_document(told))
    shards = {n: d for n, d in objects(store).items() if "/c/" in n}
    report = verify_key(store, "tiny", "calls", repair=True)
    assert next(f.object for f in report.findings if f.is_damage) == OWN
    assert report.is_mended
    assert {n: d for n, d in objects(store).items() if "/c/" in n} == shards
    assert read_key(store, "tiny", "calls") == info
    assert not [f for f in verify_key(store, "tiny", "calls").findings if f.is_damage]
    for k in LAYERS:
        np.testing.assert_array_equal(
            open_store(store.url).features("tiny", "calls").layer(k).numpy(), values_of(k)
        )


def test_rows_of_units_that_are_not_committed_are_known_by_their_ids(tmp_path: Path) -> None:
    store = MemoryStorage(str(tmp_path))
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(store, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k) for k in LAYERS}, only=[0, 1])  # the second contradicts the plan
    info = read_key(store, "tiny", "calls")
    change(store, OWN, "attributes.plan.segments", [[0, 8]])
    change(store, OWN, "attributes.fingerprint.functionals", ["mean", "std"])
    forget_checksums(store)
    assert verify_key(store, "tiny", "calls", repair=True).is_mended
    assert read_key(store, "tiny", "calls").segments == info.segments


def test_a_plan_that_all_documents_agree_on_is_refused_where_the_ledger_has_other_units(
    store: MemoryStorage,
) -> None:
    info = read_key(store, "tiny", "calls")
    shorter = dataclasses.replace(info, segments=(Segment(first_row=0, n_rows=8),))
    put_documents(store, shorter)
    store.put(OWN, key_document(shorter))
    with pytest.raises(CorruptData, match="unit 1 is recorded with rows 8–15, and its plan has no such unit"):
        open_store(store.url).features("tiny", "calls")
    manifest = manifest_of(N_ROWS)
    with pytest.raises(CorruptData, match="contradicts itself"):
        open_key(store, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    assert verify_key(store, "tiny", "calls", repair=True).is_mended
    assert read_key(store, "tiny", "calls") == info
    assert open_store(store.url).features("tiny", "calls").layer(0).shape == (23, 2, 6)


def test_one_layer_is_read_in_the_dtype_that_its_values_are_stored_in(tmp_path: Path) -> None:
    store = MemoryStorage(str(tmp_path))
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(store, request(layers=(1,)), manifest, ids)
    write(writer, {1: values_of(1)})
    forget_checksums(store)
    change(store, OWN, "attributes.dtype", "float16")
    report = verify_key(store, "tiny", "calls", repair=True)
    assert report.is_mended
    assert "its arrays were made as 2 × 6 float32" in report.findings[0].message
    np.testing.assert_array_equal(
        open_store(store.url).features("tiny", "calls").layer(1).numpy(), values_of(1)
    )


def test_a_key_of_an_earlier_version_is_read_and_gets_its_checksum(store: MemoryStorage) -> None:
    before = objects(store)
    forget_checksums(store)
    assert open_store(store.url).features("tiny", "calls").layer(0).shape == (23, 2, 6)
    report = verify_key(store, "tiny", "calls")
    assert report.is_intact
    assert [(f.kind, f.object) for f in report.findings] == [("stale", OWN)]
    verify_key(store, "tiny", "calls", repair=True)
    assert objects(store) == before


def test_a_document_that_lost_its_checksum_only_is_damage(store: MemoryStorage) -> None:
    before = objects(store)
    change(store, OWN, f"attributes.feature_store.{CHECKSUM}", None)
    with pytest.raises(CorruptData, match="the checksum of its attributes is gone"):
        read_key(store, "tiny", "calls")
    assert verify_key(store, "tiny", "calls", repair=True).is_mended
    assert objects(store) == before


def test_what_no_array_tells_is_not_made_up(store: MemoryStorage) -> None:
    change(store, OWN, "attributes.fingerprint.model.weights_sha256", "01")
    change(store, COPY, f"attributes.{COPY_NAME}.fingerprint.model.weights_sha256", "01")
    before = objects(store)
    report = verify_key(store, "tiny", "calls", repair=True)
    assert not report.is_mended
    assert "extract with --overwrite" in report.unrepaired[0]
    assert objects(store) == before


def test_a_later_format_is_no_damage(store: MemoryStorage) -> None:
    change(store, OWN, "attributes.feature_store.format_version", 2)
    with pytest.raises(CorruptData, match="which its copy does not say"):
        read_key(store, "tiny", "calls")
    change(store, COPY, f"attributes.{COPY_NAME}.feature_store.format_version", 2)
    before = objects(store)
    with pytest.raises(UnknownFormat, match="upgrade it"):
        verify_key(store, "tiny", "calls", repair=True)
    assert objects(store) == before


def read_or_refused(storage: Storage) -> KeyInfo | None:
    """What a document is read as; None where it is refused, in one line."""
    try:
        return read_key(storage, "tiny", "calls")
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    return None


@pytest.mark.parametrize("name", [OWN, COPY])
def test_a_flipped_bit_of_the_document_changes_no_answer(store: MemoryStorage, name: str) -> None:
    whole, info = store.get(name), read_key(store, "tiny", "calls")
    assert whole is not None
    rng = random.Random(1)
    for at in range(len(whole)):
        store.put(name, whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        told = read_or_refused(store)
        assert told == info or (told is None and name == OWN)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for k, v in inner for p in places(v, (*path, k)))]


ODD = ("null", "true", "-1", "0", "1e308", "1000000000000", '""', "[]", "{}", '"%s"' % ("x" * 10_000))
ODD = (*ODD, "[" * 100_000, "[" * 400 + "]" * 400, "NaN", "[[0, 1000000000000]]", "[[0, 1], [0, 1]]", '"1"')


@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_document_with_any_value_replaced_is_read_as_before_or_refused(
    store: MemoryStorage, has_checksum: bool
) -> None:
    if not has_checksum:
        forget_checksums(store)
    whole, info = json.loads(store.get(OWN) or b""), read_key(store, "tiny", "calls")
    for path in places(whole)[1:]:
        document = json.loads(json.dumps(whole))
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = "%here%"
        for odd in ODD:
            store.put(OWN, json.dumps(document).replace('"%here%"', odd).encode())
            told = read_or_refused(store)
            if has_checksum:
                assert told in (None, info)
            elif told is not None:
                assert told.n_rows <= 2**26
                assert len(told.units) <= 2**20


def test_one_key_that_cannot_be_read_keeps_nobody_from_the_others(store: MemoryStorage) -> None:
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(store, request(model="other"), manifest, ids)
    write(writer, {k: values_of(k) for k in LAYERS})
    store.put(OWN, b"{")
    store.put(COPY, b"{")
    keys, unreadable = find_keys(store)
    assert [k.path for k in keys] == ["other/calls"]
    assert list(unreadable) == [("tiny", "calls")]
    opened = open_store(store.url)
    assert opened.keys() == [("other", "calls")]
    assert "tiny/calls/zarr.json is damaged" in opened.unreadable_keys()["tiny", "calls"]


def test_documents_above_the_keys_are_verified_too(store: MemoryStorage) -> None:
    from featurestore.upkeep.verification import verify_root

    before = objects(store)
    assert verify_root(store, ["tiny"]) == []
    for name in ("zarr.json", "tiny/zarr.json"):
        store.put(name, layer_arrays.group_document({}).replace(b"group", b"grouq"))
        assert open_store(store.url).keys() == [("tiny", "calls")]
        assert [(f.kind, f.object) for f in verify_root(store, ["tiny"])] == [("changed", name)]
        verify_root(store, ["tiny"], repair=True)
        assert objects(store) == before


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("n_rows", [5, N_ROWS])
def test_arrays_of_one_entry_without_a_dimension_are_those_of_an_earlier_version(
    tmp_path: Path, n_rows: int, checksum: bool
) -> None:
    storage = MemoryStorage(str(tmp_path))
    manifest = manifest_of(n_rows)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k, n_rows) for k in LAYERS})
    arrays = ["manifest", "ledger", "claims"]
    for array in arrays if n_rows == 5 else arrays[:1]:
        change(storage, f"{KEY}/{array}/zarr.json", "dimension_names", None)
    if not checksum:
        forget_checksums(storage)
    before = objects(storage)
    assert [f.kind for f in verify_key(storage, "tiny", "calls").findings] == ([] if checksum else ["stale"])
    assert objects(storage) == before
    change(storage, f"{KEY}/status/zarr.json", "dimension_names", None)
    changed = [f.object for f in verify_key(storage, "tiny", "calls").findings if f.kind == "changed"]
    assert changed == [f"{KEY}/status/zarr.json"]
