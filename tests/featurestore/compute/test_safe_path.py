"""Files of the folder that a command is started in are data: no process of ours imports them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.compute.safe_path import SAFE_PATH_VARIABLE, safe_path
from tests.conftest import write_clips

# Modules that Python, multiprocessing, Dask and we ourselves import in the first moments of a process.
NAMES = ("signal", "pickle", "selectors", "queue", "tempfile", "random", "socket", "featurestore", "yaml")
TRAP = """
with open({log!r}, "a") as file:
    file.write("{name}\\n")
raise ImportError("{name} of the current folder was imported")
"""
WAYS = {
    "apart": """
from featurestore.apart.subprocess_call import call_apart
print(call_apart(math.factorial, 3))
""",
    "local": """
from featurestore.compute.task_runners import open_runner
with open_runner("local:1") as runner:
    print(dict(runner.map_unordered(math.factorial, [3]))[3])
""",
    "file": """
from featurestore.compute.task_runners import open_runner
with open_runner("cluster.yaml") as runner:
    print(dict(runner.map_unordered(math.factorial, [3]))[3])
""",
    "devices": """
from extractors import ExtractConfig, extract
clips = dict(manifest="data/manifest.csv", dataset="d", model="logmel", store="s")
print(extract(ExtractConfig(**clips, device="cpu,cpu", selfcheck=0)).n_embedded)
""",
}


@pytest.mark.parametrize(
    "way", [w if w == "apart" else pytest.param(w, marks=pytest.mark.slow) for w in WAYS]
)
def test_no_child_imports_a_file_of_the_current_folder(tmp_path: Path, way: str) -> None:
    pytest.importorskip("dask_jobqueue" if way == "file" else "distributed")
    folder, log = tmp_path / "folder", tmp_path / "imported"
    write_clips(folder / "data", [4000] * 6)
    for name in NAMES:
        (folder / f"{name}.py").write_text(TRAP.format(log=str(log), name=name))
    (folder / "cluster.yaml").write_text("cluster: local\njobs: 1\ncores: 1\nmemory: 1GB\n")
    script = tmp_path / "script.py"
    script.write_text("import math\nif __name__ == '__main__':" + WAYS[way].replace("\n", "\n    "))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert not log.exists(), log.read_text()
    assert done.stdout.strip() == "6", done.stderr


def test_jobs_of_a_batch_system_are_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may not inherit our environment: it is in the script."""
    pytest.importorskip("dask_jobqueue")
    from featurestore.compute.task_runners import open_runner
    from featurestore.errors import ConfigError

    (tmp_path / "sbatch").write_text(f'#!/bin/sh\ncat "$1" > {tmp_path}/job\nexit 1\n')
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "cluster.yaml"
    file.write_text("cluster: slurm\njobs: 1\ncores: 1\nmemory: 1GB\ninterface: lo\n")
    with pytest.raises(ConfigError, match="refused 1 of 1 jobs"), open_runner(str(file)):
        pass
    assert f"export {SAFE_PATH_VARIABLE}=1" in (tmp_path / "job").read_text().splitlines()


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SAFE_PATH_VARIABLE, raising=False)
    with safe_path():
        assert os.environ[SAFE_PATH_VARIABLE] == "1"
    assert SAFE_PATH_VARIABLE not in os.environ
    monkeypatch.setenv(SAFE_PATH_VARIABLE, "yes")
    with safe_path():
        assert os.environ[SAFE_PATH_VARIABLE] == "1"
    assert os.environ[SAFE_PATH_VARIABLE] == "yes"
