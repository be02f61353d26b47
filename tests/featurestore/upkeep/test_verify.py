from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from featurestore import open_store
from featurestore.backends.storage import LocalStorage, Storage
from featurestore.errors import CorruptData
from featurestore.format import layer_arrays
from featurestore.store.claims import Claims
from featurestore.store.ledger import read_ledger, withdraw, write_sealed
from featurestore.store.writer import open_key
from featurestore.upkeep import verification
from featurestore.upkeep.key_report import Finding
from featurestore.upkeep.verification import foreign_objects, verify_key
from tests.featurestore.scenario import (
    LAYERS,
    N_ROWS,
    facts_of,
    manifest_of,
    request,
    values_of,
    write,
)


@pytest.fixture(autouse=True)
def _looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes beside these tests: what was damaged at the first look stays so."""
    monkeypatch.setattr(verification, "LOOK_AGAIN_S", 0.005)


def damage(storage: Storage, **options: bool) -> list[Finding]:
    return [f for f in verify_key(storage, "tiny", "calls", **options).findings if f.is_damage]


def redo(storage: Storage) -> list[int]:
    """What the same extraction does next: embeds the pending units again."""
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    pending = [u.index for u in writer.pending_units(LAYERS)]
    for unit in writer.pending_units(LAYERS):
        # By id: repaired units may hold their utterances in another order.
        rows = [int(str(i)[1:]) for i in writer.ids[unit.first_row : unit.stop_row]]
        layers = [(k, values_of(k)[rows]) for k in LAYERS]
        writer.write_unit(unit, layers, facts_of(unit.n_rows), audio_s=1.0, elapsed_s=0.1, versions={})
    writer.finish()
    return pending


def check_values(storage: Storage) -> None:
    features = open_store(storage.url).features("tiny", "calls")
    assert sorted(features.index["utterance_id"]) == [f"f{i:03d}" for i in range(N_ROWS)]
    rows = [int(i[1:]) for i in features.index["utterance_id"]]
    for k in LAYERS:
        np.testing.assert_array_equal(features.layer(k).numpy(), values_of(k)[rows])


def test_a_sound_store_has_no_findings(filled: Storage) -> None:
    report = verify_key(filled, "tiny", "calls")
    assert report.findings == []
    assert (report.n_units, report.n_committed) == (3, 3)
    assert report.n_bytes == sum(
        o.n_bytes for r in read_ledger(filled, "tiny/calls").values() for o in r.objects.values()
    )


@pytest.mark.slow
def test_a_flipped_byte_in_any_object_is_found_named_and_mended(filled: Storage) -> None:
    names = [k for k, _ in filled.objects("tiny/calls") if "/c/" in k or k.endswith("layer_01/zarr.json")]
    rng = np.random.default_rng(1)
    for name in names:
        whole = filled.get(name)
        assert whole is not None
        broken = bytearray(whole)
        broken[int(rng.integers(len(broken)))] ^= 0x08
        filled.put(name, bytes(broken))
        found = damage(filled)
        assert {f.object for f in found} == {name}, name
        if "/manifest/c/" in name:
            filled.put(name, whole)
            continue
        report = verify_key(filled, "tiny", "calls", repair=True)
        assert report.is_mended
        redo(filled)
        assert damage(filled) == []
        check_values(filled)


@pytest.mark.parametrize(
    ("spoil", "object_", "unit"),
    [
        (lambda s: s.delete("tiny/calls/layer_01/c/2/0/0"), "layer_01/c/2/0/0", 2),
        (lambda s: s.delete("tiny/calls/status/c/0"), "status/c/0", None),
        (lambda s: s.delete("tiny/calls/utterance_id/c/0"), "utterance_id/c/0", None),
        (lambda s: s.delete("tiny/calls/layer_03/zarr.json"), "layer_03/zarr.json", None),
        (lambda s: s.put("tiny/calls/zarr.json", b"{"), "zarr.json", None),
        (lambda s: s.put("tiny/calls/ledger/c/1", b"rubbish"), "ledger/c/1", 1),
    ],
)
def test_what_is_missing_is_named_and_exactly_that_is_done_again(
    filled: Storage, spoil: Callable[[Storage], object], object_: str, unit: int | None
) -> None:
    spoil(filled)
    found = damage(filled)
    assert [(f.object, f.unit) for f in found] == [(f"tiny/calls/{object_}", unit)]
    assert verify_key(filled, "tiny", "calls", repair=True).is_mended
    # A record is told from what else there is of its unit.
    assert redo(filled) == ([unit] if object_.startswith("layer_01/c/") else [])
    assert damage(filled) == []
    check_values(filled)


def test_values_that_contradict_their_status_are_wrong(filled: Storage) -> None:
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(filled, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    values = values_of(0)[:8].copy()
    values[3, 0, 2] = np.inf
    layers = [(k, values) for k in LAYERS]
    withdraw(writer.storage, writer.info.path, {0})
    writer.write_unit(writer.info.units[0], layers, facts_of(8), audio_s=1, elapsed_s=1, versions={})
    assert {(f.kind, f.unit) for f in damage(filled)} == {("wrong", 0)}
    assert "1 rows with status ok hold values that are not finite" in damage(filled)[0].message


def test_what_a_killed_writer_leaves_is_no_damage_and_can_be_cleared(storage: Storage) -> None:
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k) for k in LAYERS}, only=[0])
    torn = "tiny/calls/layer_00/c/1/0/0"
    storage.put(torn, layer_arrays.encode_layer(writer.info.shape, values_of(0)[8:16])[:-5])
    storage.put("tiny/calls/layer_01/c/1/0/.0.99-aa.partial", b"half")
    storage.put("tiny/calls/notes.txt", b"mine")
    claims = Claims(storage, "tiny/calls")
    claims.take(1)
    report = verify_key(storage, "tiny", "calls")
    assert report.is_intact
    assert (report.n_units, report.n_committed) == (3, 1)
    assert sorted((f.kind, f.object) for f in report.findings) == [
        ("foreign", "tiny/calls/notes.txt"),
        ("leftover", "tiny/calls/claims/c/1"),
        ("leftover", "tiny/calls/layer_01/c/1/0/.0.99-aa.partial"),
        ("torn", torn),
    ]
    verify_key(storage, "tiny", "calls", repair=True)
    assert storage.get(torn) is not None, "the owner of the claim may be about to commit"
    claims.release(1)
    verify_key(storage, "tiny", "calls", repair=True)
    assert [f.kind for f in verify_key(storage, "tiny", "calls").findings] == ["foreign"]
    assert redo(storage) == [1, 2]
    check_values(storage)


def test_a_lost_manifest_is_said_and_attach_puts_it_back(filled: Storage) -> None:
    from featurestore.store.key import read_key
    from featurestore.upkeep.new_labels import attach_manifest

    filled.delete("tiny/calls/manifest/c/0")
    report = verify_key(filled, "tiny", "calls", repair=True)
    assert not report.is_mended
    assert "fs manifest attach" in report.unrepaired[0]
    [done] = attach_manifest(filled, [read_key(filled, "tiny", "calls")], manifest_of(N_ROWS + 4))
    assert (done.n_rows, done.changes) == (N_ROWS, None)
    assert damage(filled) == []
    check_values(filled)


def test_attaching_needs_every_stored_utterance(filled: Storage) -> None:
    from featurestore.errors import ManifestError
    from featurestore.store.key import read_key
    from featurestore.upkeep.new_labels import attach_manifest

    with pytest.raises(ManifestError, match=r"lacks 3 utterances of tiny/calls .first 'f020'.*so did the id"):
        attach_manifest(filled, [read_key(filled, "tiny", "calls")], manifest_of(N_ROWS - 3))


def test_foreign_objects_of_the_root_are_listed(filled: Storage) -> None:
    filled.put("readme.txt", b"hello")
    assert list(foreign_objects(filled, [("tiny", "calls")])) == ["readme.txt"]


def test_local_files_of_other_writers_do_not_disturb_a_listing(filled: Storage) -> None:
    if not isinstance(filled, LocalStorage):
        pytest.skip("folders only")
    (filled.root / "tiny" / "stray").write_text("x")
    assert open_store(filled.url).keys() == [("tiny", "calls")]


@pytest.mark.parametrize("places", [{"file": [0] * 8}, {"file": [1] * 8, "path": ["/a.wav"]}])
def test_a_record_whose_places_are_damaged_is_found_and_its_unit_done_again(
    filled: Storage, places: dict[str, list[object]]
) -> None:
    records = read_ledger(filled, "tiny/calls")
    write_sealed(filled, "tiny/calls", records | {1: dataclasses.replace(records[1], places=places)})
    with pytest.raises(CorruptData, match="ledger record of unit 1: its places are damaged"):
        open_store(filled.url).features("tiny", "calls").index  # noqa: B018
    report = verify_key(filled, "tiny", "calls", repair=True)
    assert [(f.kind, f.unit) for f in report.findings if f.is_damage] == [("damaged", 1)]
    assert report.is_mended
    assert redo(filled) == [1]
    check_values(filled)
