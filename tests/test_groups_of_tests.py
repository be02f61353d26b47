"""What one process makes for several tests is made by one: pytest 9.2 lost the groups of pytest-xdist 3.8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import os, pytest
pytestmark = pytest.mark.xdist_group("pages")

@pytest.mark.parametrize("i", range(8))
def test(i, pytestconfig):
    (pytestconfig.rootpath / f"{i}.pid").write_text(str(os.getpid()))
"""


@pytest.mark.slow
def test_a_group_is_run_by_one_process(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "test_pages.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    processes = [file.read_text() for file in tmp_path.glob("*.pid")]
    assert len(processes) == 8
    assert len(set(processes)) == 1, "install pytest and pytest-xdist as in constraints.txt"
