"""Whole runs on a real S3 server: extract, probe, and the server killed in the middle."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extractors import ExtractConfig, extract
from featurestore import open_store
from featurestore.backends.storage import LocalStorage, Storage, open_storage
from probes.questions.tasks import ProbeConfig
from probes.run.probing import run_probe
from tests.featurestore.s3server import ADMIN, S3Server, is_one_line_of_an_outage

pytestmark = pytest.mark.s3
Clips = Callable[..., Path]
ROOT = Path(__file__).parents[3]
LENGTHS = [6000 + 37 * i for i in range(40)]
LEDGER = "logmel/calls/ledger/c"


def extraction(manifest: Path, store: str | Path, unit_rows: int = 8) -> ExtractConfig:
    return ExtractConfig(
        manifest=manifest, dataset="calls", model="logmel", store=str(store), unit_rows=unit_rows, workers=1
    )


def stored(storage: Storage) -> dict[str, bytes]:
    """Every object but the ledger's records, which hold times."""
    keys = [k for k, _ in storage.objects("") if "/ledger" not in k]
    return {k: storage.get(k) or b"" for k in keys}


def test_extract_and_probe_give_what_a_folder_gives(clips: Clips, tmp_path: Path, s3_url: str) -> None:
    manifest = clips(LENGTHS)
    results = {}
    for name, store in (("local", str(tmp_path / "s")), ("s3", s3_url)):
        extract(extraction(manifest, store))
        out = tmp_path / f"results-{name}"
        run_probe(
            ProbeConfig(store=store, labels=("kind",), out=out, classifiers=("logreg",), split="random")
        )
        predictions = pd.concat(pd.read_parquet(p) for p in sorted((out / "_predictions").glob("*.parquet")))
        results[name] = (pd.read_parquet(out / "results.parquet"), predictions)
        assert all(ADMIN[1] not in p.read_text(errors="replace") for p in out.rglob("*.json"))
    assert stored(open_storage(s3_url)) == stored(LocalStorage(tmp_path / "s"))
    for _, data in ((k, open_storage(s3_url).get(k)) for k, _ in open_storage(s3_url).objects("")):
        assert data is not None
        assert ADMIN[0].encode() not in data
        assert ADMIN[1].encode() not in data
    (table, predictions), (expected, expected_predictions) = results["s3"], results["local"]
    timed = ["fit_s", "finished_at"]
    pd.testing.assert_frame_equal(table.drop(columns=timed), expected.drop(columns=timed))
    pd.testing.assert_frame_equal(predictions, expected_predictions)
    assert table["uar_test"].notna().all()


def test_a_layer_travels_to_a_process_that_has_the_credentials(
    clips: Clips, tmp_path: Path, s3_url: str
) -> None:
    extract(extraction(clips(LENGTHS[:9]), s3_url))
    layer = open_store(s3_url).features("logmel", "calls").layer(0)
    (tmp_path / "layer").write_bytes(pickle.dumps(layer))
    assert ADMIN[1].encode() not in (tmp_path / "layer").read_bytes()
    script = (
        "import pickle, sys, numpy\n"
        f"layer = pickle.load(open({str(tmp_path / 'layer')!r}, 'rb'))\n"
        f"numpy.save({str(tmp_path / 'values.npy')!r}, layer.numpy())\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
    np.testing.assert_array_equal(np.load(tmp_path / "values.npy"), layer.numpy())


def start(manifest: Path, store: str, retry_s: float) -> subprocess.Popen[str]:
    """The command itself, with every clip a unit of its own."""
    options = f"--quiet --model logmel --dataset calls --unit-rows 1 --workers 1 --manifest {manifest}"
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "extract", *options.split(), "--store", store],
        cwd=ROOT,
        env={**os.environ, "FEATURESTORE_RETRY_S": str(retry_s)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(n_units: int, run: subprocess.Popen[str], storage: Storage, server: S3Server) -> None:
    """Let the run get to so many committed units, then kill the server."""
    deadline = time.monotonic() + 60
    while len(storage.children(LEDGER)) < n_units:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
    server.kill()


@pytest.mark.slow
def test_the_server_is_killed_in_mid_run(
    clips: Clips, tmp_path: Path, s3_url: str, s3_server: S3Server
) -> None:
    manifest = clips(LENGTHS)
    extract(extraction(manifest, tmp_path / "quiet", unit_rows=1))
    quiet = LocalStorage(tmp_path / "quiet")
    storage = open_storage(s3_url)

    # An outage longer than the run's patience: one line, and what was committed is there.
    run = start(manifest, s3_url, retry_s=1)
    try:
        kill_when(5, run, storage, s3_server)
        _, said = run.communicate(timeout=60)
    finally:
        run.kill()
        s3_server.start()
    is_one_line_of_an_outage(run.returncode, said, s3_url)
    assert f"{s3_server.endpoint} did not answer" in said
    assert "nothing stored before is lost, run the same command again" in said
    committed = [name for name in storage.children(LEDGER) if storage.get(f"{LEDGER}/{name}")]
    assert 5 <= len(committed) < len(LENGTHS) - 10
    before = {k: data for k, data in stored(storage).items() if "/claims/" not in k}
    assert before == {k: quiet.get(k) for k in before}
    features = open_store(s3_url).features("logmel", "calls")
    assert features.n_pending_units == len(LENGTHS) - len(committed)
    features.layer(0).numpy()

    # The same command again, and a short outage: only a pause.
    run = start(manifest, s3_url, retry_s=60)
    try:
        kill_when(len(committed) + 3, run, storage, s3_server)
        time.sleep(0.5)
        assert run.poll() is None
        s3_server.start()
        said = "".join(run.communicate(timeout=60))
    finally:
        run.kill()
    assert run.returncode == 0, said
    assert stored(storage) == stored(quiet)
