"""What one process does between two steps of another: nothing committed is lost, nothing sound is damage."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore import open_store
from featurestore.backends.storage import LocalStorage, Storage
from featurestore.errors import CorruptData, StoreError
from featurestore.format import row_arrays
from featurestore.store.claims import ClaimLost, Claims
from featurestore.store.key import read_key
from featurestore.store.ledger import Record, read_entry, read_ledger, seal, withdraw
from featurestore.store.row_columns import publish
from featurestore.store.writer import KeyWriter, UnitRows, open_key
from featurestore.upkeep.key_copy import _Copier, copy_key
from featurestore.upkeep.repair import repair_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore.scenario import LAYERS, N_ROWS, facts_of, fill, manifest_of, request, values_of, write

KEY = "tiny/calls"
VALUES = {k: values_of(k) for k in LAYERS}
WIDER = (*LAYERS, 5)
# What a thread needs to get to where it has to wait, or would do harm.
SOON_S = 0.3


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes: what looks unfinished is looked at again without a pause."""
    monkeypatch.setattr("featurestore.upkeep.verification.LOOK_AGAIN_S", 0)


def opened(storage: Storage, n: int = N_ROWS, **changes: object) -> KeyWriter:
    manifest = manifest_of(n)
    return open_key(storage, request(**changes), manifest, manifest.table["utterance_id"].to_numpy(object))[0]


def write_unit(writer: KeyWriter, unit: int, facts: UnitRows | None = None, **more: object) -> Record:
    """One unit alone, without the end of a run."""
    u = writer.info.units[unit]
    layers = [(k, values_of(k, N_ROWS)[u.first_row : u.stop_row]) for k in writer.info.layers]
    options = {"audio_s": 1.0, "elapsed_s": 0.1, "versions": {}} | more
    return writer.write_unit(u, layers, facts or facts_of(u.n_rows), **options)  # type: ignore[arg-type]


def of_other_audio(n: int) -> UnitRows:
    facts = facts_of(n)
    return dataclasses.replace(facts, audio_hash=[f"other {h}" for h in facts.audio_hash])


def check_sound(storage: Storage, n_committed: int = 3) -> None:
    report = verify_key(storage, "tiny", "calls")
    assert report.is_intact, report.findings
    assert report.n_committed == n_committed


class Hooked(LocalStorage):
    """A folder that lets something else happen once, before the first operation of a kind on a name."""

    def __init__(self, root: Path, operation: str, name: str, then: Callable[[], object]) -> None:
        super().__init__(root)
        self._when, self._then = (operation, name), then
        self.has_happened = False

    def _before(self, operation: str, key: str) -> None:
        if not self.has_happened and operation == self._when[0] and self._when[1] in key:
            self.has_happened = True
            self._then()

    def get(self, key: str) -> bytes | None:
        self._before("get", key)
        return super().get(key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        self._before("put", key)
        return super().put(key, data, if_absent=if_absent)

    def delete(self, key: str) -> None:
        self._before("delete", key)
        super().delete(key)


class Meanwhile:
    """Something that another process begins in between, and may have to wait for."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=do)

    def begin(self) -> None:
        self._thread.start()
        self._thread.join(SOON_S)

    def end(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


# --- repair beside writers -------------------------------------------------------------------------------


def test_a_unit_committed_after_repair_has_listed_it_stays(storage: Storage) -> None:
    writer = opened(storage)
    write(writer, VALUES, only=[0])
    for k in LAYERS:  # written and not committed yet
        storage.put(f"{KEY}/layer_{k:02d}/c/1/0/0", b"half of it")
    report = verify_key(storage, "tiny", "calls")
    assert {f.kind for f in report.findings} == {"torn"}
    write_unit(writer, 1)
    repair_key(storage, writer.info, report)
    assert [line.split(":")[0] for line in report.repaired] == ["left alone, recorded"] * 3
    check_sound(storage, 2)


def test_repair_deletes_nothing_of_a_unit_that_is_taken_between_its_looks(tmp_path: Path) -> None:
    """The record is read, then a writer takes the unit over: with the claim gone nothing may be deleted."""
    writer = opened(LocalStorage(tmp_path))
    torn = f"{KEY}/layer_00/c/1/0/0"
    writer.storage.put(torn, b"half of it")
    other = Claims(writer.storage, KEY)
    name = f"{KEY}/claims/c/1"

    def take_over() -> None:  # as from a worker that showed no life for a minute
        writer.storage.put(name, other._encode(0))

    storage = Hooked(tmp_path, "get", f"{KEY}/ledger/c/1", take_over)
    report = verify_key(writer.storage, "tiny", "calls")
    repair_key(storage, writer.info, report)
    assert storage.has_happened
    assert writer.storage.get(torn) is not None
    assert other.holds(1), "the claim of the one who works there stays"


def test_a_damaged_unit_that_was_done_again_meanwhile_is_not_withdrawn(filled: Storage) -> None:
    filled.delete(f"{KEY}/layer_01/c/1/0/0")
    report = verify_key(filled, "tiny", "calls")
    assert [f.kind for f in report.findings] == ["missing"]
    writer = opened(filled)
    withdraw(writer.storage, writer.info.path, {1})
    write_unit(writer, 1, elapsed_s=0.7)
    again = read_ledger(filled, KEY)[1]
    repair_key(filled, writer.info, report)
    assert report.repaired == ["left alone, unit 1 has been done again meanwhile"]
    assert read_ledger(filled, KEY)[1] == again
    check_sound(filled)


def test_a_damaged_unit_in_work_is_left_to_who_works_on_it(filled: Storage) -> None:
    filled.delete(f"{KEY}/layer_01/c/1/0/0")
    at_work = Claims(filled, KEY)
    assert at_work.take(1)
    report = verify_key(filled, "tiny", "calls", repair=True)
    assert report.unrepaired == ["not repaired: unit 1; it is in work; verify again when that is done"]
    assert set(read_ledger(filled, KEY)) == {0, 1, 2}
    at_work.release(1)
    assert verify_key(filled, "tiny", "calls", repair=True).is_mended
    assert set(read_ledger(filled, KEY)) == {0, 2}


def test_a_damaged_entry_that_was_written_again_meanwhile_stays(filled: Storage) -> None:
    writer = opened(filled, layers=WIDER)
    filled.put(f"{KEY}/ledger/c/1", b"rubbish")
    report = verify_key(filled, "tiny", "calls")
    filled.delete(f"{KEY}/ledger/c/1")
    record = write_unit(writer, 1)
    repair_key(filled, writer.info, report)
    assert read_entry(filled, KEY, 1) == record


def test_repair_of_documents_and_ids_goes_by_the_key_as_it_is_by_then(filled: Storage) -> None:
    info = read_key(filled, "tiny", "calls")
    filled.delete(f"{KEY}/layer_03/zarr.json")
    filled.delete(f"{KEY}/utterance_id/c/0")
    report = verify_key(filled, "tiny", "calls")
    assert {f.kind for f in report.findings if f.is_damage} == {"missing"}
    ids = manifest_of(N_ROWS).table["utterance_id"].to_numpy(object)
    filled.put(f"{KEY}/utterance_id/c/0", row_arrays.encode_column("utterance_id", ids)["utterance_id/c/0"])
    writer = opened(filled, N_ROWS + 4)
    repair_key(filled, info, report)
    found = verify_key(filled, "tiny", "calls").findings
    assert [f for f in found if f.is_damage] == []
    assert sorted(i for i in open_store(filled.url).features("tiny", "calls").index["utterance_id"]) == [
        f"f{i:03d}" for i in range(N_ROWS)
    ]
    assert [u.index for u in writer.pending_units(LAYERS)] == [3]


# --- the sealed ledger -----------------------------------------------------------------------------------


def test_of_two_that_withdraw_at_once_neither_brings_back_what_the_other_took(tmp_path: Path) -> None:
    plain = LocalStorage(tmp_path)
    fill(plain)
    other = Meanwhile(lambda: withdraw(plain, KEY, {2}))
    storage = Hooked(tmp_path, "put", "ledger_sealed/c/0", other.begin)
    withdraw(storage, KEY, {1})
    other.end()
    assert storage.has_happened
    assert set(read_ledger(plain, KEY)) == {0}


def test_sealing_does_not_bring_back_what_is_withdrawn_in_between(tmp_path: Path) -> None:
    plain = LocalStorage(tmp_path)
    writer = opened(plain)
    for unit in range(3):
        write_unit(writer, unit)
    other = Meanwhile(lambda: withdraw(plain, KEY, {1}))
    storage = Hooked(tmp_path, "put", "ledger_sealed/c/0", other.begin)
    publish(storage, writer.info)
    other.end()
    assert storage.has_happened
    assert set(read_ledger(plain, KEY)) == {0, 2}


def test_an_entry_written_while_the_ledger_is_sealed_is_not_lost(tmp_path: Path) -> None:
    """Between the comparison of an entry with what was sealed and its removal, another one is put there."""
    plain = LocalStorage(tmp_path)
    writer = opened(plain)
    for unit in range(3):
        write_unit(writer, unit)
    wider = opened(plain, layers=WIDER)

    def extend() -> None:
        claims = Claims(plain, KEY)
        claims.wait_for(1, pause_s=0.01)
        write_unit(wider, 1)
        claims.release(1)

    other = Meanwhile(extend)
    storage = Hooked(tmp_path, "delete", f"{KEY}/ledger/c/1", other.begin)
    # Of the layers that the run was of: all are there.
    seal(storage, KEY, read_ledger(storage, KEY))
    other.end()
    assert storage.has_happened
    assert read_ledger(plain, KEY)[1].layers == list(WIDER)


def test_who_ends_a_run_begun_before_the_key_grew_does_not_cut_its_columns(filled: Storage) -> None:
    before = read_key(filled, "tiny", "calls")
    writer = opened(filled, N_ROWS + 5)
    unit = writer.info.units[3]
    layers = [(k, values_of(k + 10, 5)) for k in LAYERS]
    writer.write_unit(unit, layers, facts_of(5), audio_s=1.0, elapsed_s=0.1, versions={})
    writer.finish()
    assert verify_key(filled, "tiny", "calls").findings == []
    publish(filled, before)
    assert verify_key(filled, "tiny", "calls").findings == []


# --- claims ----------------------------------------------------------------------------------------------


def test_who_lost_a_unit_does_not_commit_it_and_does_it_again_under_a_new_claim(tmp_path: Path) -> None:
    """A repair took the writer for dead and cleared its shards; the record must not name them."""
    plain = LocalStorage(tmp_path)
    writer = opened(plain)
    mine = Claims(plain, KEY)
    assert mine.take(1)

    def clear() -> None:
        plain.delete(f"{KEY}/claims/c/1")
        verify_key(plain, "tiny", "calls", repair=True)

    # While the last layer is put: those before are there.
    writer.storage = Hooked(tmp_path, "put", f"{KEY}/layer_03/c/1", clear)
    tries = []

    def attempt() -> Record:
        tries.append(1)
        return write_unit(writer, 1, is_held=partial(mine.holds, 1))

    record = mine.persist(1, attempt, lambda: writer.is_committed(writer.info.units[1], LAYERS))
    assert record is not None
    assert len(tries) == 2
    check_sound(plain, 1)


def test_a_unit_lost_to_somebody_who_committed_it_is_theirs(storage: Storage) -> None:
    writer = opened(storage)
    mine, other = Claims(storage, KEY), Claims(storage, KEY)
    assert mine.take(0)
    storage.delete(f"{KEY}/claims/c/0")
    assert other.take(0)
    theirs = write_unit(writer, 0)
    other.release(0)
    attempt = partial(write_unit, writer, 0, is_held=partial(mine.holds, 0))
    with pytest.raises(ClaimLost):
        attempt()
    is_committed = partial(writer.is_committed, writer.info.units[0], LAYERS)
    assert mine.persist(0, attempt, is_committed) is None
    assert read_ledger(storage, KEY)[0] == theirs


def test_a_claim_that_was_taken_over_is_not_renewed_over_its_new_owner(storage: Storage) -> None:
    mine, other = Claims(storage, KEY), Claims(storage, KEY)
    assert mine.take(0)
    storage.put(f"{KEY}/claims/c/0", other._encode(0))
    mine.renew()
    assert other.holds(0)
    mine.release(0)
    assert other.holds(0)


def test_a_claim_let_go_of_in_between_goes_to_who_is_first(tmp_path: Path) -> None:
    """Between a try and the look at whose it is the owner lets go and another takes it: it is the other's."""
    plain = LocalStorage(tmp_path)
    owner, other = Claims(plain, KEY), Claims(plain, KEY)
    assert owner.take(0)

    class Between(Hooked):
        def get(self, key: str) -> bytes | None:
            found = super().get(key)
            if found is None and key.endswith("claims/c/0"):
                assert other.take(0)
            return found

    late = Claims(Between(tmp_path, "get", "claims/c/0", lambda: owner.release(0)), KEY)
    assert not late.take(0)
    assert other.holds(0)


def test_the_end_of_a_run_leaves_the_claim_of_who_adds_a_layer(filled: Storage) -> None:
    before = opened(filled)
    wider = opened(filled, layers=WIDER)
    at_work = Claims(filled, KEY)
    assert at_work.take(1)
    before.finish()
    assert at_work.holds(1)
    write_unit(wider, 1)
    before.finish()
    assert not at_work.holds(1), "what is done needs no claim"


# --- what is looked at while it is written ---------------------------------------------------------------


def test_a_unit_done_again_from_other_audio_is_never_damage(tmp_path: Path) -> None:
    """Verification has read the record; the unit is done again, with other values, before its shard is."""
    plain = LocalStorage(tmp_path)
    write(opened(plain, codec="small"), VALUES)  # compressed, so that other values have another size
    writer = opened(plain, layers=WIDER, codec="small")

    def redo() -> None:
        unit = writer.info.units[0]
        withdraw(writer.storage, writer.info.path, {0})
        layers = [(k, values_of(k + 50)[:8]) for k in WIDER]
        writer.write_unit(unit, layers, of_other_audio(8), audio_s=1.0, elapsed_s=0.1, versions={})

    storage = Hooked(tmp_path, "get", f"{KEY}/layer_00/c/0", redo)
    report = verify_key(storage, "tiny", "calls")
    assert storage.has_happened
    assert [f for f in report.findings if f.is_damage] == []
    assert report.n_committed == 3


def test_what_a_record_names_is_never_written_over(filled: Storage) -> None:
    """A run that embeds other audio again has taken the record away before it writes a shard."""
    writer = opened(filled, layers=WIDER)
    seen = []

    class Watched(LocalStorage):
        def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
            if "/layer_" in key:
                seen.append(0 in read_ledger(filled, KEY))
            return super().put(key, data, if_absent=if_absent)

    if not isinstance(filled, LocalStorage):
        pytest.skip("folders only")
    withdraw(writer.storage, writer.info.path, {0})
    writer.storage = Watched(filled.root)
    write_unit(writer, 0, of_other_audio(8))
    assert seen == [False] * len(WIDER)
    assert read_ledger(filled, KEY)[0].rows["audio_hash"][0] == "other h0"


def test_a_key_that_grows_while_it_is_verified_is_not_damaged(tmp_path: Path) -> None:
    """Longer documents are there before the attributes that call for them."""
    plain = LocalStorage(tmp_path)
    fill(plain)
    other = Meanwhile(lambda: opened(slow, N_ROWS + 30))
    slow = Hooked(tmp_path, "put", f"{KEY}/zarr.json", lambda: threading.Event().wait(SOON_S + 0.05))
    other.begin()
    report = verify_key(plain, "tiny", "calls")
    other.end()
    assert [f for f in report.findings if f.is_damage] == []


class Killed(BaseException):
    """The end of a process, which no handler catches."""


class Mortal(LocalStorage):
    """A folder whose process is killed before one of its writes to documents, ids or manifest."""

    def __init__(self, root: Path, n_left: int) -> None:
        super().__init__(root)
        self.n_left = n_left

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        if "/claims/c/" not in key:
            if self.n_left == 0:
                raise Killed
            self.n_left -= 1
        return super().put(key, data, if_absent=if_absent)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("what", [{"n": N_ROWS + 30}, {"layers": (*LAYERS, 7)}], ids=["rows", "layers"])
def test_who_is_killed_while_adding_to_a_key_leaves_no_damage(
    tmp_path: Path, what: dict[str, Any], repair: bool
) -> None:
    plain = LocalStorage(tmp_path)
    fill(plain)
    n_kills = 0
    while True:
        try:
            opened(Mortal(tmp_path, n_kills), **what)
            break
        except Killed:
            n_kills += 1
        report = verify_key(plain, "tiny", "calls", repair=repair)
        # New rows that the manifest does not list yet are said to be so, with what to do.
        assert [f for f in report.findings if f.is_damage and "as before lists it" not in f.remedy] == []
        assert report.n_committed == 3
        np.testing.assert_array_equal(
            open_store(str(tmp_path)).features("tiny", "calls").layer(1).numpy(), values_of(1)
        )
        if repair:
            left = [f for f in verify_key(plain, "tiny", "calls").findings if "zarr.json" in f.object]
            assert [f for f in left if f.kind != "foreign"] == []  # a layer that is none yet
    assert n_kills > 8
    assert [f for f in verify_key(plain, "tiny", "calls").findings if f.is_damage] == []


def test_documents_and_ids_of_a_key_are_of_one_of_two_that_create_it_at_once(tmp_path: Path) -> None:
    plain = LocalStorage(tmp_path)
    other = Meanwhile(lambda: opened(plain, N_ROWS + 30, layers=(*LAYERS, 7)))
    opened(Hooked(tmp_path, "put", f"{KEY}/zarr.json", other.begin))
    other.end()
    info = read_key(plain, "tiny", "calls")
    assert info.layers == (*LAYERS, 7)
    assert len(info.segments) == 2
    assert verify_key(plain, "tiny", "calls").findings == []


def test_repair_does_not_write_documents_of_before_over_those_of_a_run(tmp_path: Path) -> None:
    plain = LocalStorage(tmp_path)
    fill(plain)
    (tmp_path / KEY / "status" / "zarr.json").write_text("{}")
    (tmp_path / KEY / "ledger" / "zarr.json").write_text("{}")
    claim = Hooked(
        tmp_path, "put", f"{KEY}/claims/c/ledger", lambda: opened(plain, N_ROWS + 30, layers=(*LAYERS, 7))
    )
    report = verify_key(claim, "tiny", "calls", repair=True)
    assert claim.has_happened
    assert report.unrepaired == []
    assert [f for f in verify_key(plain, "tiny", "calls").findings if f.is_damage] == []


def test_a_reader_of_a_unit_that_is_done_again_is_told_so(storage: Storage) -> None:
    writer = opened(storage, codec="small")  # compressed, so that other values have another size
    write(writer, VALUES)
    layer = open_store(storage.url).features("tiny", "calls").layer(1)
    withdraw(writer.storage, writer.info.path, {1})
    unit = writer.info.units[1]
    layers = [(k, values_of(k + 50)[:8]) for k in LAYERS]
    writer.write_unit(unit, layers, of_other_audio(8), audio_s=1.0, elapsed_s=0.1, versions={})
    with pytest.raises(StoreError, match=r"unit 1 of tiny/calls is being embedded again.*open it") as said:
        layer.numpy()
    assert not isinstance(said.value, CorruptData)
    np.testing.assert_array_equal(
        open_store(storage.url).features("tiny", "calls").layer(1).numpy(slice(8, 16)), values_of(51)[:8]
    )


# --- copies ----------------------------------------------------------------------------------------------


def test_a_unit_that_is_done_again_while_it_is_copied_is_copied_as_it_is_then(tmp_path: Path) -> None:
    plain, target = LocalStorage(tmp_path / "a"), LocalStorage(tmp_path / "b")
    writer = opened(plain, codec="small")  # compressed, so that other values have another size
    write(writer, VALUES)

    def redo() -> None:
        withdraw(writer.storage, writer.info.path, {1})
        layers = [(k, values_of(k + 50)[:8]) for k in LAYERS]
        unit = writer.info.units[1]
        writer.write_unit(unit, layers, of_other_audio(8), audio_s=1.0, elapsed_s=0.1, versions={})

    summary = copy_key(Hooked(plain.root, "get", f"{KEY}/layer_00/c/1", redo), target, "tiny", "calls")
    assert (summary.n_copied, summary.n_pending) == (3, 0)
    check_sound(target)
    np.testing.assert_array_equal(
        open_store(target.url).features("tiny", "calls").layer(3).numpy(slice(8, 16)), values_of(53)[:8]
    )


def test_repair_of_a_copy_that_is_being_made_deletes_nothing_of_it(tmp_path: Path) -> None:
    plain, target = LocalStorage(tmp_path / "a"), LocalStorage(tmp_path / "b")
    fill(plain)
    copy_key(plain, target, "tiny", "calls")
    withdraw(target, KEY, {0, 1, 2})
    during = Hooked(
        target.root,
        "put",
        f"{KEY}/ledger/c/1",  # its shards are there, its record is not
        lambda: verify_key(target, "tiny", "calls", repair=True),
    )
    copy_key(plain, during, "tiny", "calls")
    assert during.has_happened
    check_sound(target)


def test_an_older_copy_does_not_replace_a_wider_record(filled: Storage, tmp_path: Path) -> None:
    target = LocalStorage(tmp_path / "copy")
    writer = opened(filled, layers=WIDER)
    copy_key(filled, target, "tiny", "calls")
    before = read_ledger(filled, KEY)
    write(writer, {5: values_of(5)})
    copy_key(filled, target, "tiny", "calls")
    assert read_ledger(target, KEY)[1].layers == list(WIDER)
    late = _Copier(filled, target, writer.info, dict(before))  # has read the source before the others
    late.copy(writer.info.units, lambda: None)
    assert late.n_copied == 0
    assert read_ledger(target, KEY)[1].layers == list(WIDER)
