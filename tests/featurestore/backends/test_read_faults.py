"""An outage, a refusal or a lack of memory is never taken for damage, however deep it comes wrapped."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
import pytest

from featurestore import open_store
from featurestore.backends.read_faults import damage_in, not_damage
from featurestore.backends.storage import LocalStorage, Storage
from featurestore.errors import CorruptData, StoreError
from featurestore.store.layer import Layer, open_array, read_row
from featurestore.store.ledger import read_ledger
from featurestore.store.row_columns import read_ids
from featurestore.store.stored_manifest import read_stored_manifest
from featurestore.upkeep.verification import verify_key

OUTAGE = StoreError("s3://b: cannot read tiny/calls/x: nobody answers")
GROUPS: list[Callable[[Exception], Exception]] = [
    lambda e: e,
    lambda e: ExceptionGroup("unhandled errors in a TaskGroup", [e]),
    lambda e: ExceptionGroup("outer", [ValueError("checksum"), ExceptionGroup("inner", [KeyError("k"), e])]),
]


@pytest.mark.parametrize("wrap", GROUPS)
def test_an_outage_stays_one_in_groups_and_as_a_cause(wrap: Callable[[Exception], Exception]) -> None:
    assert not_damage(wrap(OUTAGE)) is OUTAGE
    caused = ValueError("cannot decode")
    caused.__cause__ = wrap(OUTAGE)
    assert not_damage(caused) is OUTAGE
    for error in (
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
        OSError(errno.EIO, "EIO"),
    ):
        other = not_damage(wrap(error))
        assert isinstance(other, StoreError)
        assert not isinstance(other, CorruptData)
    for error in (ValueError("checksum"), CorruptData("bytes"), FileNotFoundError("x"), RuntimeError("zstd")):
        assert not_damage(wrap(error)) is None


@pytest.mark.parametrize("wrap", GROUPS)
def test_damage_that_was_named_again_on_the_way_out_is_looked_at_once(
    wrap: Callable[[Exception], Exception],
) -> None:
    damage = CorruptData("bytes")
    damage.__cause__ = wrap(damage)
    assert not_damage(damage) is None
    assert damage_in(wrap(damage)) is damage


class Raising:
    """A Zarr array whose reads fail as Zarr's do, from its task group."""

    path = "tiny/calls/layer_01"

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.oindex = self

    def __getitem__(self, _: object) -> np.ndarray:
        raise self.error


@pytest.mark.parametrize("wrap", GROUPS)
def test_an_outage_in_a_ranged_read_is_an_outage_and_damage_is_damage(
    filled: Storage, monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Exception], Exception]
) -> None:
    layer = open_store(filled.url).features("tiny", "calls").layer(1)
    monkeypatch.setattr(Layer, "_is_worth_whole", lambda self, rows: False)
    for error, expected in ((OUTAGE, StoreError), (ValueError("stored and computed differ"), CorruptData)):
        array = Raising(wrap(error))
        monkeypatch.setattr("featurestore.store.layer._open_as", lambda *_, array=array: array)
        for read in (lambda: layer.numpy([3]), lambda array=array: read_row(filled, array, 3)):  # type: ignore[arg-type, misc]
            with pytest.raises(StoreError) as said:
                read()
            assert type(said.value) is expected
            assert ("verify" in str(said.value)) == (expected is CorruptData)
            assert "ExceptionGroup" not in str(said.value)


def test_a_row_that_is_not_there_is_damage_for_the_self_check(filled: Storage) -> None:
    array = open_array(filled, "tiny/calls/layer_01")
    values = open_store(filled.url).features("tiny", "calls").layer(1).numpy()
    np.testing.assert_array_equal(read_row(filled, array, 9), values[9])
    filled.delete("tiny/calls/layer_01/c/1/0/0")
    with pytest.raises(CorruptData, match="row 9 has no values"):
        read_row(filled, array, 9)


class Down(LocalStorage):
    """A folder on a server that does not answer for some names, or has no memory left to decode them."""

    def __init__(self, root: object, name: str) -> None:
        super().__init__(root)  # type: ignore[arg-type]
        self.name = name

    def get(self, key: str) -> bytes | None:
        if self.name in key:
            raise OUTAGE
        return super().get(key)


@pytest.mark.parametrize(
    "name", ["manifest/c/0", "utterance_id/c/0", "status/c/0", "ledger_sealed", "layer_01/c/1"]
)
def test_verify_ends_with_an_outage_and_repairs_nothing(filled: Storage, name: str) -> None:
    if not isinstance(filled, LocalStorage):
        pytest.skip("folders only")
    before = dict(filled.objects(""))
    with pytest.raises(StoreError) as said:
        verify_key(Down(filled.root, name), "tiny", "calls", repair=True)
    assert said.value is OUTAGE
    assert dict(filled.objects("")) == before


def test_a_lack_of_memory_is_no_damage(filled: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    info = open_store(filled.url).features("tiny", "calls").info

    def no_memory(*_: object, **__: object) -> object:
        raise MemoryError

    for function, read in (
        ("decode_column", lambda: read_ids(filled, info)),
        ("decode_sealed", lambda: read_ledger(filled, info.path)),
        ("decode_text", lambda: read_stored_manifest(filled, info)),
        ("decode_column_object", lambda: verify_key(filled, "tiny", "calls", repair=True)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"featurestore.format.row_arrays.{function}", no_memory)
            with pytest.raises(StoreError, match="no room left") as said:
                read()
            assert not isinstance(said.value, CorruptData)
    monkeypatch.setattr("featurestore.format.layer_arrays.decode_layer", no_memory)
    with pytest.raises(StoreError, match="no room left"):
        verify_key(filled, "tiny", "calls", repair=True)
    monkeypatch.undo()
    assert verify_key(filled, "tiny", "calls").findings == []
