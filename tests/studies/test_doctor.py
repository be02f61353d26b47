"""What a machine has of what fs needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from studies import doctor

ROOT = Path(__file__).parents[2]


def test_a_sound_machine(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "zarr.json").write_text("{}")
    result = CliRunner().invoke(cli.main, ["doctor", "--store", str(tmp_path / "s")])
    assert result.exit_code == 0, result.output
    assert "✗" not in result.output
    assert re.search(r"✓ packages: all \d\d that are needed are there \(torch 2", result.output)
    assert re.search(r"✓ device: .*(CPU|CUDA)", result.output)
    assert re.search(
        rf"✓ store: {tmp_path}: \d+ GB free, \d+ MB/s written, [\d.]+ ms for a small file", result.output
    )
    assert [p.name for p in tmp_path.rglob("*")] == ["s", "zarr.json"]


def test_every_extra_is_explained() -> None:
    parts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert set(doctor.EXTRAS) == set(parts) - {"all", "dev", "docs"}


@pytest.mark.parametrize(
    ("required", "text", "remedy"),
    [
        (
            "numpy<1.0,>=0.9",
            r"numpy \d.* is installed, expected <1\.0,>=0\.9",
            "pip install 'numpy<1.0,>=0.9'",
        ),
        ("no-such-package>=2", "no-such-package is not installed", "pip install 'no-such-package>=2'"),
    ],
)
def test_a_package_that_does_not_fit(required: str, text: str, remedy: str) -> None:
    (finding,) = doctor._packages([required, "click>=8", 'pytest>=999; extra == "dev"'])
    assert re.fullmatch(text, finding.text)
    assert (finding.remedy, finding.is_fault) == (remedy, True)


def test_an_extra_that_is_not_there_is_said_with_its_remedy() -> None:
    missing, there = doctor._extras(['no-such-package>=2; extra == "s3"', 'click>=8; extra == "rank"'])
    assert missing.text.startswith("not there (no-such-package): stores in buckets")
    assert missing.remedy == "pip install 'featurestore-audio[s3]'"
    assert not missing.is_fault
    assert "rank" in there.text


def test_a_folder_that_may_not_be_written_to() -> None:
    finding = doctor._folder(Path("/proc/fs-doctor/store"))
    assert finding.is_fault
    assert finding.text.startswith("/proc: ")


@pytest.mark.parametrize("name", ["featurestore", "extractors", "probes", "studies"])
def test_anothers_modules_of_our_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", "import cli; cli.main()", "--version"],
        cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: `import {name}` leads to {tmp_path / name}.py, expected {ROOT / name}; "
    )
    assert done.stderr.count("\n") == 1
