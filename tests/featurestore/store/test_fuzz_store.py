"""Documents of a store, damaged in every way: an answer or one line, quickly, and never more.

Documents of a key itself are in `test_key_document`, those outside a store in `tests/test_fuzz_documents.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featurestore import open_store
from featurestore.backends.storage import MemoryStorage
from featurestore.calls import Call
from featurestore.format import row_arrays
from featurestore.store.history import read_history, record_call
from featurestore.store.ledger import read_ledger
from featurestore.store.writer import open_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore.scenario import LAYERS, N_ROWS, manifest_of, request, values_of, write
from tests.fuzz import Damaged, changed, flipped, require_answer_or_one_line

KEY = "tiny/calls"
amounts = pytest.mark.parametrize("n", [20, pytest.param(250, marks=pytest.mark.slow)])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    """A key with an entry for each of two units, and one that is still to be done."""
    monkeypatch.setattr("featurestore.upkeep.verification.LOOK_AGAIN_S", 0)
    storage = MemoryStorage(str(tmp_path))
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k) for k in LAYERS}, only=[0, 1])
    record_call(storage, writer.info, Call(words=("fs", "extract"), table=None))
    return storage


def answer(storage: MemoryStorage) -> dict[str, Any]:
    features = open_store(storage.url).features("tiny", "calls")
    values = {k: features.layer(k).numpy().tobytes() for k in features.layers}
    return {"index": features.index.to_json(), "history": read_history(storage, KEY), "values": values}


def read_and_verify(storage: MemoryStorage) -> Any:
    """What a reader gets, after verification has looked at it, whatever that says."""
    verify_key(storage, "tiny", "calls")
    return answer(storage)


def put_and(storage: MemoryStorage, name: str, read: Callable[[], Any]) -> Callable[[bytes], Any]:
    def put_and_read(data: bytes) -> Any:
        storage.put(name, data)
        return read()

    return put_and_read


@pytest.mark.parametrize(
    "name",
    ["ledger/c/0", "manifest/c/0", "utterance_id/c/0", "ledger/zarr.json", "history/c/0", "claims/c/2"],
)
@amounts
def test_flipped_bits_change_no_answer(store: MemoryStorage, name: str, n: int) -> None:
    """Of what is only noted, a call, the record is lost; and a claim is nobody's."""
    store.put(
        f"{KEY}/claims/c/2", row_arrays.encode_text('{"worker": "w", "host": "h", "pid": 1}', compress=False)
    )
    data = store.get(f"{KEY}/{name}")
    assert data is not None
    intact = answer(store)

    def read() -> Any:
        found = answer(store)
        return found if "history" not in name else found | {"history": intact["history"]}

    require_answer_or_one_line(
        flipped(data, random.Random(n), n), put_and(store, f"{KEY}/{name}", read), intact
    )


def changed_texts(text: str, n: int, *, compress: bool) -> Iterator[Damaged]:
    """Changes of structure of a JSON text in an object whose checksums are right."""
    for one in changed(json.loads(text), random.Random(n), n, json.dumps):
        try:
            yield Damaged(row_arrays.encode_text(one.data.decode("utf-8"), compress=compress), one.how)
        except UnicodeError:
            continue  # no text that can be stored


@amounts
def test_records_that_were_changed_are_read_or_refused(store: MemoryStorage, n: int) -> None:
    name = f"{KEY}/ledger/c/0"
    text = read_ledger(store, KEY)[0].to_json()
    read = put_and(store, name, lambda: read_and_verify(store))
    n_read, n_refused = require_answer_or_one_line(changed_texts(text, n, compress=False), read)
    assert n_refused > n_read


@amounts
def test_calls_that_were_changed_are_read_or_refused(store: MemoryStorage, n: int) -> None:
    name = f"{KEY}/history/c/0"
    text = row_arrays.decode_text(store.get(name) or b"")
    read = put_and(store, name, lambda: read_and_verify(store))
    require_answer_or_one_line(changed_texts(text, n, compress=True), read)


@amounts
def test_array_documents_that_were_changed_change_no_value(store: MemoryStorage, n: int) -> None:
    name = f"{KEY}/layer_01/zarr.json"
    document, intact = json.loads(store.get(name) or b""), answer(store)

    def few() -> Any:
        verify_key(store, "tiny", "calls")
        rows = open_store(store.url).features("tiny", "calls").layer(1)
        assert (rows.numpy([3]) == rows.numpy()[[3]]).all()  # by Zarr, and by the attributes
        return answer(store)

    require_answer_or_one_line(
        changed(document, random.Random(n), n, json.dumps), put_and(store, name, few), intact
    )


@amounts
def test_manifests_that_were_changed_are_read_or_refused(store: MemoryStorage, n: int) -> None:
    name, rng = f"{KEY}/manifest/c/0", random.Random(n)
    text = row_arrays.decode_text(store.get(name) or b"")
    pieces = (
        '"',
        ",",
        "\n",
        "\r",
        "\0",
        "nan",
        "-1",
        "1e308",
        "path,",
        "é" * 500,
        ",,,,,,,,,,",
        "utterance_id",
    )

    def edited() -> Iterator[Damaged]:
        for _ in range(n):
            at, piece, cut = rng.randrange(len(text)), rng.choice(pieces), rng.choice((0, 0, 1, 5, 100))
            new = text[:at] + piece + text[at + cut :]
            yield Damaged(row_arrays.encode_text(new), f"{piece!r} for {cut} characters at {at}")

    require_answer_or_one_line(edited(), put_and(store, name, lambda: read_and_verify(store)))
