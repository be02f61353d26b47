"""What checks found, in the history of a key: kept, shown, copied, and no call."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from extractors import ExtractConfig, extract
from featurestore import open_store
from featurestore.checks import CheckRecord
from featurestore.store.history import (
    MOST_CHECKS,
    read_checks,
    read_history,
    record_call,
    record_check,
)
from featurestore.untrusted.document_shape import ShapeError
from probes.report.methods.embeddings import sentences
from probes.report.methods.wording import name
from probes.results.extractions import extraction_record
from tests.command_line import fs
from tests.conftest import write_clips

CHECK = CheckRecord(
    clips="noise",
    n_clips=6,
    device="cpu",
    precision="fp32",
    tolerance=1e-5,
    alone=2e-7,
    versions={"torch": "2.13"},
    reference="transformers 5.23.0, HubertModel",
    from_reference=math.inf,
)


def test_a_check_that_was_asked_for_stands_in_its_key_and_goes_with_it(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "audio", (9000, 5000, 7000))
    root = tmp_path / "a.zarr"
    words = ("extract", "--manifest", manifest, "--dataset", "d", "--model", "logmel", "--store", root)
    assert fs(*words, "--selfcheck", 2).exit_code == 0
    storage = open_store(root).storage
    [check] = read_checks(storage, "logmel/d")
    assert (check.clips, check.n_clips, check.device, check.precision) == ("stored", 2, "cpu", "fp32")
    assert 0 <= check.alone < check.tolerance == 1e-5
    assert "torch" in check.versions
    assert len(read_history(storage, "logmel/d")) == 1
    said = check.sentence()
    assert said.startswith("2 clips embedded again alone, ")
    assert f"checked:                         {said}" in fs("info", root).stdout
    assert fs("verify", root).exit_code == 0
    # Nothing to do: nothing is checked, and nothing added.
    assert fs(*words, "--selfcheck", 2).exit_code == 0
    assert read_checks(storage, "logmel/d") == [check]

    copy = tmp_path / "b.zarr"
    assert fs("cp", root, copy).exit_code == 0
    record = extraction_record(open_store(copy).features("logmel", "d"))
    assert record["checks"] == [said]
    assert f"Checked ({name('logmel/d')}): {name(said)}." in [*sentences({"logmel/d": record}, {})]


def test_what_is_checked_unasked_is_not_kept(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "audio", (9000, 5000))
    store = str(tmp_path / "a.zarr")
    summary = extract(ExtractConfig(manifest=manifest, dataset="d", model="logmel", store=store))
    assert summary.selfcheck is not None
    storage = open_store(store).storage
    assert read_checks(storage, "logmel/d") == []
    # Any number of checks leave room for calls; a damaged one is a lost entry, and no check.
    info = open_store(store).features("logmel", "d").info
    for n in range(3):
        changed = CheckRecord(**{**vars(CHECK), "n_clips": n + 1})
        assert record_check(storage, info, changed)
        assert record_check(storage, info, changed)
    assert [c.n_clips for c in read_checks(storage, "logmel/d")] == [1, 2, 3]
    [call] = read_history(storage, "logmel/d")
    record_call(storage, info, call)
    assert read_history(storage, "logmel/d") == [call]
    storage.put("logmel/d/history/c/2", b"?")
    assert [c.n_clips for c in read_checks(storage, "logmel/d")] == [1, 3]
    assert MOST_CHECKS < 1024


def test_a_record_is_read_as_it_was_written() -> None:
    value = json.loads(json.dumps(CHECK.to_json(), allow_nan=False))
    assert value["from_reference"] is None
    assert CheckRecord.from_json(value) == CHECK
    assert not CHECK.is_within
    assert "no number from transformers 5.23.0, HubertModel" in CHECK.sentence()
    assert "MORE THAN ALLOWED" in CHECK.sentence()
    with pytest.raises(ShapeError, match=r"check\.n_clips: expected a whole number"):
        CheckRecord.from_json({**value, "n_clips": "many"})
