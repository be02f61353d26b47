"""A key that cannot be read: it is named, the others are worked on, and it can be mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from featurestore.backends.storage import LocalStorage
from featurestore.store.writer import open_key
from tests.command_line import fs
from tests.featurestore.scenario import LAYERS, N_ROWS, manifest_of, request, values_of, write


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    """Two whole keys, ``good/calls`` and ``tiny/calls``."""
    storage = LocalStorage(tmp_path / "s")
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    for model in ("good", "tiny"):
        writer, _ = open_key(storage, request(model=model), manifest, ids)
        write(writer, {k: values_of(k) for k in LAYERS})
    return storage


Spoil = Callable[[LocalStorage], None]


def spoil_document(storage: LocalStorage) -> None:
    data = storage.get("tiny/calls/zarr.json") or b""
    storage.put("tiny/calls/zarr.json", data.replace(b'"unit_rows": 8', b'"unit_rows": 4'))


def spoil_ledger(storage: LocalStorage) -> None:
    for copy in (0, 1):
        storage.put(f"tiny/calls/ledger_sealed/c/{copy}/0", b"x" * 300)


def lines(result: Result) -> list[str]:
    assert "Traceback" not in result.output
    return [line for line in result.stderr.splitlines() if "tiny/calls" in line]


@pytest.mark.parametrize("spoil", [spoil_document, spoil_ledger])
def test_a_bad_key_is_named_and_the_others_are_worked_on(
    store: LocalStorage, tmp_path: Path, spoil: Spoil
) -> None:
    spoil(store)
    done = fs("info", store.url)
    assert (done.exit_code, len(lines(done))) == (0, 1)
    assert "good/calls" in done.stdout
    assert "left out" in lines(done)[0]
    assert "`fs verify --repair`" in lines(done)[0]
    done = fs("ls", store.url)
    assert done.exit_code == 0
    assert "good" in done.stdout
    probe = ("probe", "--store", store.url, "--label", "kind", "--layers", "0", "--seeds", "1", "-q")
    done = fs(*probe, "--out", tmp_path / "r")
    assert (done.exit_code, len(lines(done))) == (0, 1)
    done = fs("cp", store.url, tmp_path / "t")
    assert (done.exit_code, len(lines(done))) == (2, 1)
    assert "1 key of 2 could not be copied" in done.stderr
    assert "good/calls: 3 units copied" in done.stdout
    assert not (tmp_path / "t" / "tiny" / "calls" / "zarr.json").exists()
    # Named, it is an error, of one line.
    for asked in (
        ("info", store.url),
        (*probe, "--out", tmp_path / "r2"),
        ("cp", store.url, tmp_path / "t2"),
    ):
        done = fs(*asked, "--model", "tiny")
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), asked


@pytest.mark.parametrize("spoil", [spoil_document, spoil_ledger])
def test_a_bad_key_is_verified_repaired_and_removed(store: LocalStorage, spoil: Spoil) -> None:
    shards = {n: store.get(n) for n, _ in store.objects("tiny/calls") if "/layer_" in n}
    spoil(store)
    done = fs("verify", store.url, "-q")
    assert done.exit_code == 1
    assert "good/calls: intact" in done.stdout
    assert fs("verify", store.url, "--repair", "-q").exit_code == 0
    assert {n: store.get(n) for n in shards} == shards
    done = fs("verify", store.url, "-q")
    assert (done.exit_code, "tiny/calls: intact; 3 of 3 units committed" in done.stdout) == (0, True)
    spoil(store)
    assert fs("rm", store.url, "--model", "tiny", "--dataset", "calls", "--yes").exit_code == 0
    assert store.children("tiny") == []
    assert fs("ls", store.url).stderr == ""


def test_a_key_of_which_nothing_is_embedded_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """Such as a run leaves that was stopped before its first unit, or whose cluster did not answer."""
    storage = LocalStorage(tmp_path / "s")
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    open_key(storage, replace(request(), dataset="later"), manifest, ids)
    probe = (
        "probe",
        "--store",
        storage.url,
        "--label",
        "kind",
        "--layers",
        "0",
        "--seeds",
        "1",
        "-q",
        "--out",
    )
    alone = fs(*probe, tmp_path / "none")
    assert alone.exit_code == 2
    assert alone.stderr.splitlines() == [
        f"error: {storage.url}: nothing of tiny/later is embedded yet; run the same `fs extract` again, or "
        "remove it with `fs rm`"
    ]
    writer, _ = open_key(storage, request(), manifest, ids)
    write(writer, {k: values_of(k) for k in LAYERS})
    done = fs(*probe, tmp_path / "r")
    assert done.exit_code == 0
    assert (
        "note: left out: tiny/later: nothing of it is embedded yet; the same `fs extract` again embeds it"
        in done.stderr.splitlines()
    )


def test_probing_says_what_is_not_embedded_yet(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "s")
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k) for k in LAYERS}, only=[0, 1])
    done = fs(
        *("probe", "--store", storage.url, "--label", "kind", "--layers", "0", "--seeds", "1", "-q"),
        *("--out", tmp_path / "r"),
    )
    assert done.exit_code == 0
    assert lines(done) == [
        "note: tiny/calls: 7 of 23 utterances are not embedded yet and are left out; "
        "the same `fs extract` again embeds them"
    ]
