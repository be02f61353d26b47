"""A SLURM of one node, for tests that are marked `slurm`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SETUP = Path(__file__).with_name("setup.sh")


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """Environment of a client of the cluster."""
    pytest.importorskip("dask_jobqueue")
    # A short path: a socket's may not exceed 108 characters.
    folder = tempfile.mkdtemp(prefix="slurm-", dir="/tmp")
    started = subprocess.run(
        ["bash", SETUP, "start", folder], capture_output=True, text=True, timeout=300, check=False
    )
    try:
        if started.returncode == 3:  # not root, or nothing to install it from
            pytest.skip(started.stderr.strip().splitlines()[-1])
        assert started.returncode == 0, started.stderr
        yield {**os.environ, "SLURM_CONF": started.stdout.strip()}
    finally:
        subprocess.run(["bash", SETUP, "stop", folder], timeout=60, check=False)
        shutil.rmtree(folder, ignore_errors=True)
