"""How a key was made: the calls that made or changed it, in their order, kept inside it.

    <model>/<dataset>/history      (call,)      one JSON text per chunk, "" behind the last

Entries are added, each under the next number and only where there is none, so that any number of writers need
no lock. A call that is the same as the last one is not added: resuming a run, and the other tasks of a job
array, leave the key as it is. Keys of earlier versions have no such array.

What a check of the key found stands among the calls: the last of them once more, with ``check`` beside its
words. Versions that know of no checks read the same call twice.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from featurestore.backends.storage import Storage
from featurestore.calls import Call
from featurestore.checks import CheckRecord
from featurestore.format import row_arrays
from featurestore.format.decoding import parsed_json
from featurestore.format.row_arrays import HISTORY_ARRAY
from featurestore.store.key import LISTERS, KeyInfo
from featurestore.store.ledger import read_ledger

# The array has one length for good. Beyond it nothing is noted: no key is made by a thousand calls.
MOST_CALLS = 1024
# Of them so many are left to calls.
MOST_CHECKS = 256
# Of one call; a longer one is noted as one whose words are not kept.
MOST_CHARACTERS = 2**18
_LOST = Call(words=())


class _Entry(NamedTuple):
    call: Call
    check: CheckRecord | None = None


def record_call(storage: Storage, info: KeyInfo, call: Call) -> None:
    """Add a call to the history of a key that it has made or changed."""
    entries = _entries(storage, info.path)
    if not entries:
        # Who makes a key notes it before the first unit is committed.
        begun_before = not call.makes_key or bool(read_ledger(storage, info.path))
        call = Call(words=call.words, table=call.table, follows_unrecorded=begun_before)
        storage.put(f"{info.path}/{HISTORY_ARRAY}/zarr.json", history_document(), if_absent=True)
    text = json.dumps(call.to_json(), ensure_ascii=False)
    if len(text) > MOST_CHARACTERS:
        call, text = _LOST, json.dumps(_LOST.to_json())
    data = row_arrays.encode_text(text)
    while _calls(entries)[-1:] != [call] and len(entries) < MOST_CALLS:
        if storage.put(_name(info.path, len(entries)), data, if_absent=True):
            return
        entries = _entries(storage, info.path)  # somebody else was first


def record_check(storage: Storage, info: KeyInfo, check: CheckRecord) -> bool:
    """Add what was found to the history of a key; whether it stands there now.

    A key that was made by an earlier version has none, and one that is full takes no more.
    """
    while True:
        entries = _entries(storage, info.path)
        calls = [call for call in _calls(entries) if call.words]
        checks = [entry.check for entry in entries if entry.check is not None]
        if check in checks[-1:]:
            return True
        if not calls or len(checks) >= MOST_CHECKS or len(entries) >= MOST_CALLS:
            return False
        text = json.dumps({**calls[-1].to_json(), "check": check.to_json()}, ensure_ascii=False)
        if len(text) > MOST_CHARACTERS:
            return False
        if storage.put(_name(info.path, len(entries)), row_arrays.encode_text(text), if_absent=True):
            return True
        # Somebody else was first.


def read_history(storage: Storage, path: str) -> list[Call]:
    """The calls of the key ``model/dataset``, first to last; one without words where a record is damaged."""
    return _calls(_entries(storage, path))


def read_checks(storage: Storage, path: str) -> list[CheckRecord]:
    """What checks of the key found, first to last."""
    return [entry.check for entry in _entries(storage, path) if entry.check is not None]


def _calls(entries: Iterable[_Entry]) -> list[Call]:
    return [entry.call for entry in entries if entry.check is None]


def _entries(storage: Storage, path: str) -> list[_Entry]:
    numbers = _numbers(storage.children(f"{path}/{HISTORY_ARRAY}/c"))
    found = {n: _decode_entry(storage.get(_name(path, n))) for n in numbers}
    return [found.get(n, _Entry(_LOST)) for n in range(max(numbers, default=-1) + 1)]


def read_histories(storage: Storage, paths: Iterable[str]) -> dict[str, list[Call]]:
    """`read_history` of many keys, side by side."""
    paths = sorted(set(paths))
    with ThreadPoolExecutor(LISTERS) as pool:
        return dict(zip(paths, pool.map(lambda path: read_history(storage, path), paths), strict=True))


def copy_history(source: Storage, target: Storage, path: str) -> None:
    """Give the target's key the history of the source's; a damaged entry becomes one that says it is lost."""
    numbers = _numbers(source.children(f"{path}/{HISTORY_ARRAY}/c"))
    found = {n: data for n in sorted(numbers) if (data := source.get(_name(path, n))) is not None}
    if numbers:
        target.put(f"{path}/{HISTORY_ARRAY}/zarr.json", history_document())
    for n, data in found.items():
        if _decode(data) is _LOST:
            give_up_entry(target, _name(path, n))
        elif target.get(_name(path, n)) != data:
            target.put(_name(path, n), data)
    # What was done to an earlier copy is undone by copying again.
    for n in _numbers(target.children(f"{path}/{HISTORY_ARRAY}/c")):
        if n not in numbers:
            target.delete(_name(path, n))


def history_document() -> bytes:
    """``zarr.json`` of the array."""
    return row_arrays.text_document(MOST_CALLS, dimension="call")


def history_objects(present: Collection[str]) -> list[str]:
    """Those of a key's objects that belong to its history, and its document where there should be one."""
    folder = f"{HISTORY_ARRAY}/c/"
    numbers = _numbers(n.removeprefix(folder) for n in present if n.startswith(folder))
    entries = [row_arrays.entry_name(HISTORY_ARRAY, n) for n in sorted(numbers)]
    return [f"{HISTORY_ARRAY}/zarr.json", *entries] if entries else []


def unreadable_entries(storage: Storage, path: str, names: Collection[str]) -> Iterator[str]:
    """Entries of a history of which `names` are the objects that are damaged, or missing between others."""
    numbers = _numbers(n.rsplit("/", 1)[-1] for n in names)
    for n in range(max(numbers, default=-1) + 1):
        if _decode(storage.get(_name(path, n))) is _LOST:
            yield row_arrays.entry_name(HISTORY_ARRAY, n)


def give_up_entry(storage: Storage, name: str) -> None:
    """Put a readable record in the place of a damaged one, which says that a call stood there."""
    storage.put(name, row_arrays.encode_text(json.dumps(_LOST.to_json())))


def _name(path: str, number: int) -> str:
    return f"{path}/{row_arrays.entry_name(HISTORY_ARRAY, number)}"


def _numbers(names: Iterable[str]) -> set[int]:
    """Of the entries among these names; what is named otherwise is none of ours."""
    return {n for n in row_arrays.entry_numbers(names) if n < MOST_CALLS}


def _decode(data: bytes | None) -> Call:
    """`_LOST` itself where the record cannot be read."""
    return _decode_entry(data).call


def _decode_entry(data: bytes | None) -> _Entry:
    if data is None:
        return _Entry(_LOST)
    try:
        text = row_arrays.decode_text(data)
        if len(text) > MOST_CHARACTERS:
            return _Entry(_LOST)
        value = parsed_json(text)
        call = Call.from_json(value)
        return _Entry(call, CheckRecord.from_json(value["check"]) if "check" in value else None)
    except ValueError:
        return _Entry(_LOST)
