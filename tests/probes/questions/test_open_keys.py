"""Keys that are opened once in a process, also where this is a worker that gets one task after the other."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from probes import ProbeConfig
from probes.questions.labelled_rows import OpenKeys
from probes.run.probe_plan import make_plan


def kept(sent: bytes) -> int:
    return id(pickle.loads(sent).of_this_process())


def test_a_worker_keeps_them_for_a_run() -> None:
    distributed = pytest.importorskip("distributed")
    first, second = pickle.dumps(OpenKeys()), pickle.dumps(OpenKeys())
    options = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "processes": False,
        "dashboard_address": "127.0.0.1:0",
    }
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        found = [client.submit(kept, keys, pure=False).result() for keys in (first, first, second, second)]
    assert found[0] == found[1] != found[2] == found[3]


def test_outside_a_worker_it_stands_for_itself() -> None:
    own = OpenKeys()
    assert own.of_this_process() is own
    sent = pickle.loads(pickle.dumps(own))
    assert sent.of_this_process() is sent


def test_the_last_key_and_few_questions_are_kept(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ProbeConfig(store=store, labels=("call", "caller"), out=tmp_path, split="kfold:3", layers="0")
    tasks, keys = make_plan(config).tasks, OpenKeys()
    assert len(tasks) == 12
    first = keys.question(tasks[0])
    assert keys.question(tasks[0]) is first
    assert keys.question(tasks[1]).labelled is first.labelled  # another fold
    for task in tasks:
        assert keys.features(task) is keys.features(task)
        assert keys.question(task) is keys.question(task)
    assert keys.question(tasks[0]) is not first
    monkeypatch.setattr("probes.questions.labelled_rows.ROWS_KEPT_OPEN", 10)
    assert OpenKeys().features(tasks[0]) is not keys.features(tasks[0])
    large = OpenKeys()
    assert large.features(tasks[0]) is not large.features(tasks[0])
