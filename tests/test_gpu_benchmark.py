"""The run that is prepared for a GPU goes through on a CPU, and keeps what it has when a section fails."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
SECTIONS = ["parity", "peak", "rates", "peers", "files", "probes", "fits"]


def run(out: Path, *options: str, path: str = "") -> dict[str, dict[str, object]]:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--out", str(out), *options]
    # Threads that share busy cores wait for each other longer than they work.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "A smoke run: its numbers say nothing." in (out / "gpu.md").read_text()
    found: dict[str, dict[str, object]] = json.loads((out / "gpu.json").read_text())["sections"]
    return found


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_benchmark", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_section_goes_through(tmp_path: Path) -> None:
    found = run(tmp_path, "--minutes", "30")  # however busy the machine is
    assert list(found) == SECTIONS
    assert "failed" not in json.dumps(found)
    assert "TOO" not in json.dumps(found)


@pytest.mark.slow
def test_a_section_without_time_leaves_the_others(tmp_path: Path) -> None:
    found = run(tmp_path, "--sections", "peak,fits", "--minutes", "0.0001")
    assert set(found) == {"peak", "fits"}
    assert all("not run" in content for content in found.values())


# Every process of the benchmark ends at once when it looks for the model of the section `files`.
FAULT = """
import os, signal, sys
class Fault:
    def find_spec(self, name, path=None, target=None):
        if name == "null_model":
            os.kill(os.getpid(), signal.SIGKILL)
sys.meta_path.insert(0, Fault())
"""


@pytest.mark.slow
def test_a_lost_process_costs_its_section_alone(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FAULT)
    found = run(tmp_path, "--sections", "peak,files,fits", path=str(tmp_path / "site"))
    assert list(found) == ["peak", "files", "fits"]
    assert found["files"] == {"failed": "its process was lost (SIGKILL)"}
    for name in ("peak", "fits"):
        assert "failed" not in found[name]
        assert len(found[name]) >= 2


@pytest.mark.slow  # two processes, one of which imports PyTorch
def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--device", "cuda:99", "--small", "--out", str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "finds no CUDA device" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_hangs_is_not_waited_for(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "START_S", 0.3)
    monkeypatch.setattr(script, "GRACE_S", 0.3)
    (tmp_path / "gpu.json").write_text(json.dumps({"sections": {}, "running_until": time.time() + 0.5}))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        began = time.monotonic()
        assert script.wait(process, tmp_path) == "it hung, long after its time"
        assert 0.7 < time.monotonic() - began < 10
        process.kill()
        process.wait()
        assert script.wait(process, tmp_path) == "SIGKILL"


def test_time_is_over_whatever_a_section_catches(script: ModuleType, tmp_path: Path) -> None:
    seen = []

    def work(run: object, found: dict[str, object]) -> None:
        found["first"] = 1
        for _ in range(1000):
            try:
                time.sleep(0.02)
            except Exception:  # TimeoutError would be an OSError, which much code expects
                seen.append("caught")

    found = {"machine": "here", "is_smoke": False, "sections": {}}
    script.section(
        "it", work, script.Run("cpu", True, tmp_path), 1.05, found, lambda: script.write(tmp_path, found)
    )
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    kept = json.loads((tmp_path / "gpu.json").read_text())["sections"]["it"]
    assert kept == {"first": 1, "failed": "OutOfTime: stopped after its 1 s", "seconds": kept["seconds"]}
    assert kept["seconds"] < 5
    assert seen == []


def test_the_idle_share_counts_kernels_side_by_side_once(script: ModuleType) -> None:
    assert script.idle_of([(0.0, 4.0)]) == 0
    assert script.idle_of([(6.0, 8.0), (0.0, 4.0), (1.0, 2.0), (3.0, 5.0)]) == pytest.approx(1 / 8)
