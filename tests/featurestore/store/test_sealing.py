"""The sealed ledger and the published columns: small, and never behind what a reader is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import zarr

from featurestore import open_store
from featurestore.backends.storage import LocalStorage, Storage, open_storage
from featurestore.errors import CorruptData, OtherAudio
from featurestore.manifest.table import Manifest
from featurestore.store.ledger import read_entries, read_ledger, read_sealed, seal, withdraw
from featurestore.store.row_columns import publish
from featurestore.store.writer import KeyWriter, UnitRows, open_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore.scenario import LAYERS, N_ROWS, facts_of, manifest_of, request, values_of, write

KEY = "tiny/calls"


def opened(storage: Storage, n: int = N_ROWS, **changes: object) -> KeyWriter:
    manifest = manifest_of(n)
    return open_key(storage, request(**changes), manifest, manifest.table["utterance_id"].to_numpy(object))[0]


class Failing(LocalStorage):
    """A folder on a disk that gives up after so many writes and removals."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root)
        self.left = left

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError("the disk is gone")

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        self._spend()
        return super().put(key, data, if_absent=if_absent)

    def delete(self, key: str) -> None:
        self._spend()
        super().delete(key)


def test_objects_of_a_complete_key_are_layers_times_units_and_a_constant(tmp_path: Path) -> None:
    beyond = []
    for unit_rows in (8, 2, 1):
        storage = open_storage(tmp_path / str(unit_rows))
        writer = opened(storage, unit_rows=unit_rows)
        write(writer, {k: values_of(k) for k in LAYERS})
        n_objects = len(list(storage.objects("")))
        beyond.append(n_objects - len(LAYERS) * len(writer.info.units))
    assert len(set(beyond)) == 1
    # Documents: root, model, key, 3 layers, 9 columns and texts; objects: 5 columns, 2 copies, manifest.
    assert beyond[0] == 3 + 3 + 9 + 5 + 2 + 1


@pytest.mark.slow
def test_an_end_of_run_cut_off_anywhere_loses_nothing(tmp_path: Path) -> None:
    values = {k: values_of(k) for k in LAYERS}
    for steps in range(40):
        root = tmp_path / str(steps)
        writer = opened(LocalStorage(root))
        for unit in writer.pending_units(LAYERS):
            part = [(k, v[unit.first_row : unit.stop_row]) for k, v in values.items()]
            writer.write_unit(unit, part, facts_of(unit.n_rows), audio_s=1.0, elapsed_s=0.1, versions={})
        before = read_ledger(writer.storage, KEY)
        try:
            publish(Failing(root, steps), writer.info)
            done = True
        except OSError:
            done = False
        assert read_ledger(writer.storage, KEY) == before
        np.testing.assert_array_equal(open_store(root).features("tiny", "calls").layer(1).numpy(), values[1])
        report = verify_key(writer.storage, "tiny", "calls")
        assert report.is_intact, report.findings
        assert {f.kind for f in report.findings} <= {"stale", "leftover"}
        # As if the process had died with the disk.
        for name in writer.storage.children(f"{KEY}/claims/c"):
            writer.storage.delete(f"{KEY}/claims/c/{name}")
        publish(writer.storage, writer.info)
        assert verify_key(writer.storage, "tiny", "calls").findings == []
        assert read_entries(writer.storage, KEY) == {}
        if done:
            break
    assert done
    assert steps > 8


def test_a_unit_committed_while_the_columns_are_written_is_in_them(tmp_path: Path) -> None:
    values = {k: values_of(k) for k in LAYERS}
    storage = LocalStorage(tmp_path)
    writer = opened(storage)
    for unit in (writer.info.units[0], writer.info.units[2]):
        part = [(k, v[unit.first_row : unit.stop_row]) for k, v in values.items()]
        writer.write_unit(unit, part, facts_of(unit.n_rows), audio_s=1.0, elapsed_s=0.1, versions={})

    class Overtaken(LocalStorage):
        """Another process commits unit 1 between this one's reading of the ledger and its first write."""

        def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
            if 1 not in read_ledger(storage, KEY):
                write(writer, values, only=[1])
            return super().put(key, data, if_absent=if_absent)

    publish(Overtaken(tmp_path), writer.info)
    group = zarr.open(tmp_path, mode="r")[KEY]
    assert group["status"][:].tolist() == ["ok"] * N_ROWS
    assert group["n_frames"][8:16].tolist() == list(range(15, 23))


def test_a_sealed_key_is_extended_by_a_layer_unit_by_unit(filled: Storage) -> None:
    assert read_entries(filled, KEY) == {}
    layers = (*LAYERS, 5)
    writer = opened(filled, layers=layers)
    write(writer, {5: values_of(5)}, only=[1])
    assert set(read_entries(filled, KEY)) == {1}
    assert set(read_sealed(filled, KEY)) == {0, 1, 2}
    assert [u.index for u in writer.pending_units(layers)] == [0, 2]
    assert writer.is_committed(writer.info.units[1], layers)
    write(writer, {5: values_of(5)})
    assert read_entries(filled, KEY) == {}
    features = open_store(filled.url).features("tiny", "calls")
    for k in layers:
        np.testing.assert_array_equal(features.layer(k).numpy(), values_of(k))
    assert verify_key(filled, "tiny", "calls").findings == []


def test_growing_a_sealed_key_shows_new_rows_when_they_are_committed(filled: Storage) -> None:
    writer = opened(filled, N_ROWS + 5)
    features = open_store(filled.url).features("tiny", "calls")
    assert (len(features.index), features.n_pending_units) == (N_ROWS, 1)
    unit = writer.pending_units(LAYERS)[0]
    layers = [(k, values_of(k + 10, 5)) for k in LAYERS]
    writer.write_unit(unit, layers, facts_of(5), audio_s=1.0, elapsed_s=0.1, versions={})
    assert len(open_store(filled.url).features("tiny", "calls").index) == N_ROWS + 5
    writer.finish()
    assert len(open_store(filled.url).features("tiny", "calls").index) == N_ROWS + 5
    assert len(read_sealed(filled, KEY)) == 4
    assert verify_key(filled, "tiny", "calls").findings == []


def test_withdrawing_a_unit_of_a_sealed_key_takes_only_that(filled: Storage) -> None:
    writer = opened(filled)
    withdraw(writer.storage, writer.info.path, {1})
    features = open_store(filled.url).features("tiny", "calls")
    assert features.index["row"].tolist() == [*range(8), *range(16, N_ROWS)]
    assert [u.index for u in writer.pending_units(LAYERS)] == [1]


def test_one_damaged_copy_of_the_sealed_ledger_costs_nothing_and_both_are_an_error(filled: Storage) -> None:
    for copy in (0, 1):
        name = f"{KEY}/ledger_sealed/c/{copy}/0"
        whole = filled.get(name)
        assert whole is not None
        filled.put(name, whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        np.testing.assert_array_equal(
            open_store(filled.url).features("tiny", "calls").layer(3).numpy(), values_of(3)
        )
        report = verify_key(filled, "tiny", "calls", repair=True)
        assert [f.object for f in report.findings] == [name]
        assert filled.get(name) == whole
    for copy in (0, 1):
        name = f"{KEY}/ledger_sealed/c/{copy}/0"
        filled.put(name, b"\0" * 40)
    with pytest.raises(CorruptData, match="sealed ledger"):
        open_store(filled.url).features("tiny", "calls")
    report = verify_key(filled, "tiny", "calls", repair=True)
    assert any("3 records told from the columns and the shards" in line for line in report.repaired)
    assert opened(filled).pending_units(LAYERS) == []


def rewritten(facts: UnitRows, **changes: object) -> UnitRows:
    return dataclasses.replace(facts, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("then", ["changed", "failed"])
def test_layers_of_other_audio_are_refused_and_the_earlier_ones_kept(filled: Storage, then: str) -> None:
    writer = opened(filled, layers=(*LAYERS, 5))
    before = dict(read_ledger(filled, KEY))
    unit = writer.info.units[0]
    facts = facts_of(unit.n_rows)
    if then == "changed":
        other = rewritten(facts, audio_hash=["changed", *facts.audio_hash[1:]])
    else:
        other = rewritten(
            facts, status=["failed: gone", *facts.status[1:]], audio_hash=["", *facts.audio_hash[1:]]
        )
    said = "it is other audio now" if then == "changed" else "failed: gone"
    with pytest.raises(OtherAudio, match=rf"'f000' of tiny/calls is embedded for layers 0-1,3.*{said}.*kept"):
        writer.write_unit(unit, [(5, values_of(5)[:8])], other, audio_s=1.0, elapsed_s=0.1, versions={})
    assert read_ledger(filled, KEY) == before
    np.testing.assert_array_equal(
        open_store(filled.url).features("tiny", "calls").layer(1).numpy(), values_of(1)
    )


def test_a_row_that_failed_stays_failed_in_layers_that_are_added(storage: Storage) -> None:
    writer = opened(storage)
    unit = writer.info.units[0]
    facts = facts_of(unit.n_rows)
    failed = rewritten(
        facts,
        status=["failed: gone", *facts.status[1:]],
        n_frames=np.array([0, *facts.n_frames[1:]]),
        audio_hash=["", *facts.audio_hash[1:]],
    )
    first = {k: values_of(k)[:8].copy() for k in LAYERS}
    for values in first.values():
        values[0] = np.nan
    writer.write_unit(unit, list(first.items()), failed, audio_s=1.0, elapsed_s=0.1, versions={})
    writer = opened(storage, layers=(*LAYERS, 5))
    writer.write_unit(unit, [(5, values_of(5)[:8])], facts, audio_s=1.0, elapsed_s=0.1, versions={})
    record = read_ledger(storage, KEY)[0]
    assert record.layers == [*LAYERS, 5]
    assert record.rows["status"][0] == "failed: gone"
    layer = open_store(storage.url).features("tiny", "calls").layer(5).numpy()
    assert np.isnan(layer[0]).all()
    np.testing.assert_array_equal(layer[1:], values_of(5)[1:8])
    assert [f for f in verify_key(storage, "tiny", "calls").findings if f.is_damage] == []


def test_layers_are_added_to_a_unit_with_pruned_rows(filled: Storage) -> None:
    manifest = manifest_of(N_ROWS)
    fewer = Manifest(table=manifest.table.drop(index=[4]).reset_index(drop=True), source="m.csv")
    ids = fewer.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(filled, request(layers=(*LAYERS, 5)), fewer, ids, prune=True)
    unit = writer.info.units[0]
    facts = facts_of(unit.n_rows)
    pruned = rewritten(
        facts,
        status=[*facts.status[:4], "", *facts.status[5:]],
        n_frames=np.where(np.arange(8) == 4, 0, facts.n_frames),
        audio_hash=[*facts.audio_hash[:4], "", *facts.audio_hash[5:]],
    )
    values = values_of(5)[:8].copy()
    values[4] = np.nan
    writer.write_unit(unit, [(5, values)], pruned, audio_s=1.0, elapsed_s=0.1, versions={})
    assert read_ledger(filled, KEY)[0].layers == [*LAYERS, 5]
    assert [f for f in verify_key(filled, "tiny", "calls").findings if f.is_damage] == []


def test_sealing_does_not_bring_back_what_was_withdrawn_meanwhile(filled: Storage) -> None:
    writer = opened(filled)
    before = read_ledger(filled, KEY)
    withdraw(writer.storage, writer.info.path, {1})
    seal(filled, KEY, before)
    assert set(read_ledger(filled, KEY)) == {0, 2}


def test_rows_listed_as_other_utterances_than_they_were_made_for_are_refused(filled: Storage) -> None:
    from featurestore.store.row_columns import put_ids, read_ids

    writer = opened(filled)
    ids = read_ids(filled, writer.info)
    ids[[2, 9]] = ids[[9, 2]]
    put_ids(filled, writer.info, ids)
    with pytest.raises(CorruptData, match="row 2 of tiny/calls was embedded as utterance 'f002'"):
        open_store(filled.url).features("tiny", "calls").index  # noqa: B018
    report = verify_key(filled, "tiny", "calls", repair=True)
    damage = [f for f in report.findings if f.is_damage]
    assert [(f.unit, f.object) for f in damage] == [(None, f"{KEY}/utterance_id/c/0")] * 2
    assert [f.message for f in damage] == [
        f"lists other utterances than unit {u} was made for" for u in (0, 1)
    ]
    # What was embedded is what the records say: nothing is done again for it.
    assert report.is_mended
    assert list(read_ids(filled, writer.info)) == [f"f{i:03d}" for i in range(N_ROWS)]
    assert set(read_ledger(filled, KEY)) == {0, 1, 2}
