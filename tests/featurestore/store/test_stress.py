"""Writers, one of them killed again and again, repair, audit, readers and copies on one key at once.

Nothing committed may vanish, nothing sound be called damaged, and the store ends as a quiet run leaves it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featurestore import open_store
from featurestore.backends.storage import LocalStorage, open_storage
from featurestore.manifest.table import write_manifest
from featurestore.outputs import PARTIAL_SUFFIX
from featurestore.upkeep.key_copy import copy_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore import stress

ROOT = Path(__file__).resolve().parents[3]
SECONDS = float(os.environ.get("FEATURESTORE_STRESS_S", "20"))
# What three writers do in a second beside all the others, on two cores; more or less of it is as good.
UNITS_PER_SECOND = 3


def contents(root: Path) -> dict[str, bytes | None]:
    """All objects but the ledger's records, which hold times.

    A writer killed while it puts a document above the key leaves a temporary file there, which `fs verify`
    lists with what is in no key.
    """
    storage = LocalStorage(root)
    keys = [k for k, _ in storage.objects("") if "/ledger" not in k]
    return {
        k: storage.get(k) for k in keys if k.startswith(f"{stress.KEY}/") or not k.endswith(PARTIAL_SUFFIX)
    }


def check_values(url: str, n_rows: int) -> None:
    features = open_store(url).features(stress.MODEL, stress.DATASET)
    assert features.index["row"].tolist() == list(range(n_rows))
    for k in stress.LAYERS:
        np.testing.assert_array_equal(features.layer(k).numpy(), stress.values(k, np.arange(n_rows)))


@pytest.mark.slow
@pytest.mark.timeout(300 + 20 * SECONDS)
def test_everything_at_once_ends_as_a_quiet_run(tmp_path: Path) -> None:
    n_rows = stress.UNIT_ROWS * int(SECONDS * UNITS_PER_SECOND)
    write_manifest(stress.manifest_of(n_rows).table, tmp_path / "m.csv")
    command = [sys.executable, "-m", "tests.featurestore.stress", str(tmp_path), str(n_rows)]
    run = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    found = [json.loads(line) for path in tmp_path.glob("*.found") for line in path.read_text().splitlines()]
    assert found == []
    rounds = {path.stem.split("-")[0]: int(path.read_text()) for path in tmp_path.glob("*.rounds")}
    assert sorted(rounds) == sorted(stress.PARTS)
    assert all(rounds.values()), rounds

    # One more run, as the killed writer's user would start it, finds nothing to do.
    stress.extract(str(tmp_path / "store"), n_rows, stress.LAYERS, 0)
    storage = open_storage(tmp_path / "store")
    verify_key(storage, stress.MODEL, stress.DATASET, repair=True)
    report = verify_key(storage, stress.MODEL, stress.DATASET)
    assert report.findings == []
    assert report.n_committed == report.n_units == n_rows // stress.UNIT_ROWS
    check_values(str(tmp_path / "store"), n_rows)
    for layers in (stress.LAYERS[:2], stress.LAYERS):
        stress.extract(str(tmp_path / "quiet"), n_rows, layers, 0)
    assert contents(tmp_path / "store") == contents(tmp_path / "quiet")
    copy_key(storage, open_storage(tmp_path / "copy"), stress.MODEL, stress.DATASET)
    assert contents(tmp_path / "copy") == contents(tmp_path / "quiet")
