"""The wheel holds all that fs needs: away from the checkout the demo runs, and its store is intact."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parent.parent
PACKAGES = ("featurestore", "extractors", "probes", "studies")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"  # building leaves files among the sources
    sources.mkdir()
    for name in (*PACKAGES, "cli.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(sources)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def fs(installed: Path, *arguments: object) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import cli; cli.main()", *map(str, arguments)],
        cwd=installed.parent, env=environment, text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_but_the_packages_is_in_it(installed: Path) -> None:
    assert {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")} == {
        "cli.py", *PACKAGES,
    }  # fmt: skip
    # Every file that is no module, such as a page's styles and the demo's study, is in it too.
    kept = {p.relative_to(installed) for p in installed.rglob("*") if p.is_file()}
    for package in PACKAGES:
        tracked = subprocess.run(
            ["git", "ls-files", package], cwd=ROOT, text=True, capture_output=True, check=True
        ).stdout.split()
        assert {Path(name) for name in tracked} <= kept


def test_the_demo_runs_from_it(installed: Path) -> None:
    assert "✗" not in fs(installed, "doctor")
    assert "synthetic" in fs(installed, "demo", "--out", "demo", "--quiet")
    assert "intact" in fs(installed, "verify", "demo/features.zarr", "--quiet")
