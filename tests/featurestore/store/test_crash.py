"""Writers are killed, several at once, or run out of disk: the store ends as a quiet run leaves it."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featurestore import open_store
from featurestore.backends.storage import LocalStorage
from featurestore.store.ledger import read_ledger
from featurestore.upkeep.verification import verify_key
from tests.featurestore import crash_writer

N_ROWS, UNIT_ROWS = 160, 8
SCRIPT = crash_writer.__file__


def start(root: Path, *, pause_s: float = 0.0, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, SCRIPT, str(root), str(N_ROWS), str(UNIT_ROWS), str(pause_s)]
    folder = Path(__file__).resolve().parents[3]
    return subprocess.Popen(command, cwd=folder, text=True, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def finish(process: subprocess.Popen[str]) -> str:
    _, stderr = process.communicate(timeout=120)
    return stderr


def contents(root: Path) -> dict[str, bytes | None]:
    """All objects but the ledger's records, which hold times."""
    storage = LocalStorage(root)
    return {k: storage.get(k) for k, _ in storage.objects("") if "/ledger" not in k}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("quiet") / "store"
    crash_writer.main(str(root), N_ROWS, UNIT_ROWS, 0.0)
    return root


def check_complete(root: Path, quiet: Path) -> None:
    report = verify_key(LocalStorage(root), "tiny", "calls", repair=True)
    assert report.is_intact, report.findings
    assert report.n_committed == report.n_units == N_ROWS // UNIT_ROWS
    assert verify_key(LocalStorage(root), "tiny", "calls").findings == []
    assert contents(root) == contents(quiet)


def committed(root: Path) -> int:
    return len(read_ledger(LocalStorage(root), "tiny/calls"))


@pytest.mark.slow
def test_a_writer_killed_at_twenty_random_moments(tmp_path: Path, quiet: Path) -> None:
    random.seed(7)
    root = tmp_path / "store"
    kills = 0
    for _ in range(60):
        process = start(root, pause_s=0.01)
        target = committed(root) + random.randint(0, 1)
        deadline = time.monotonic() + 30
        while committed(root) < target and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        # Anywhere from inside the start-up to the middle of the next unit.
        time.sleep(random.random() * (0.06 if target else 1.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        finish(process)
        if kills:
            # Never damage: a reader in between sees committed units, whole.
            store = LocalStorage(root)
            if (root / "tiny" / "calls" / "zarr.json").exists():
                assert verify_key(store, "tiny", "calls").is_intact
        if kills == 20 or committed(root) == N_ROWS // UNIT_ROWS:
            break
    assert kills >= 12, "the run was over too soon to be killed often"
    last = start(root)
    assert finish(last) == ""
    assert last.returncode == 0
    check_complete(root, quiet)


@pytest.mark.slow
def test_four_writers_at_once_two_of_them_killed(tmp_path: Path, quiet: Path) -> None:
    root = tmp_path / "store"
    writers = [start(root, pause_s=0.02) for _ in range(4)]
    deadline = time.monotonic() + 60
    for victim, after in zip(writers[:2], (2, 5), strict=True):
        while committed(root) < after and time.monotonic() < deadline:
            time.sleep(0.002)
        victim.send_signal(signal.SIGKILL)
    outputs = [finish(w) for w in writers]
    assert [w.returncode for w in writers[2:]] == [0, 0], outputs
    assert committed(root) == N_ROWS // UNIT_ROWS
    check_complete(root, quiet)


@pytest.mark.slow  # four share it above, two of which are killed
def test_writers_share_the_work(tmp_path: Path, quiet: Path) -> None:
    root = tmp_path / "store"
    for writer in [start(root, pause_s=0.02) for _ in range(2)]:
        assert finish(writer) == ""
    by_process = open_store(root).features("tiny", "calls").ledger
    started = {r.started_at for r in by_process.values()}
    assert len(by_process) == N_ROWS // UNIT_ROWS
    assert started
    check_complete(root, quiet)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_completes(tmp_path: Path, quiet: Path) -> None:
    root = tmp_path / "store"
    # Documents and columns fit, shards (about 4.2 kB) do not: the first one fails.
    full = start(root, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3500, 3500)))
    stderr = finish(full)
    assert full.returncode == 2
    assert stderr.count("\n") == 1
    assert "cannot write" in stderr
    assert "layer_00/c/0/0/0" in stderr
    assert "nothing stored before is lost" in stderr
    assert committed(root) == 0
    report = verify_key(LocalStorage(root), "tiny", "calls")
    assert report.is_intact
    again = start(root)
    assert finish(again) == ""
    check_complete(root, quiet)


@pytest.mark.slow  # two processes more, for what a limit on the size of files shows above
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_small_tmpfs_fills_up(tmp_path: Path, quiet: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(mount)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.strip()}")
    try:
        first = start(mount / "store")
        stderr = finish(first)
        assert first.returncode == 2
        assert "No space left on device" in stderr
        assert verify_key(LocalStorage(mount / "store"), "tiny", "calls").is_intact
        done = committed(mount / "store")
        assert 0 < done < N_ROWS // UNIT_ROWS
        subprocess.run(["mount", "-o", "remount,size=16m", str(mount)], check=True)
        again = start(mount / "store")
        assert finish(again) == ""
        check_complete(mount / "store", quiet)
    finally:
        subprocess.run(["umount", str(mount)], check=True)
