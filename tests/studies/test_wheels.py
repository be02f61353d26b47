"""Wheels for a machine without a network: pip chooses them, here from a folder in place of an index."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.errors import ConfigError, UserError
from studies.wheels import Node, collect_wheels, empty_wheel, platform_options, read_node

NODE = Node(
    python="3.12", machine="x86_64", installed={"torch": "2.13.1+cu130", "gamma": "1.0", "old": "0.9"}
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    empty_wheel(folder, "alpha", "1.5", ["torch>=2.13", "beta", "gamma"])
    empty_wheel(folder, "beta", "2.0")
    empty_wheel(folder, "beta", "3.0", ["gamma>=2"])
    empty_wheel(folder, "gamma", "2.0")
    # The version that the machine has, as an index has it.
    empty_wheel(folder, "gamma", "1.0", tag="cp312-cp312-manylinux_2_28_x86_64")
    empty_wheel(folder, "old", "1.1")
    empty_wheel(folder, "torch", "2.14")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def names(folder: Path) -> list[str]:
    return sorted("-".join(p.name.split("-")[:2]) for p in folder.iterdir())


@pytest.mark.slow
def test_what_the_machine_has_stays_and_what_it_lacks_fits_to_it(index: Path, tmp_path: Path) -> None:
    found = collect_wheels(NODE, tmp_path / "out", requirements=["alpha", "torch>=2.13", "old>=1"])
    # No PyTorch of another build, and the beta that lives with the gamma that is there.
    assert names(found.folder) == ["alpha-1.5", "beta-2.0", "old-1.1"]
    assert found.replaced == (("old", "0.9"),)
    newer = collect_wheels(NODE, tmp_path / "newer", requirements=["alpha", "beta>=3"], replace=["gamma"])
    assert names(newer.folder) == ["alpha-1.5", "beta-3.0", "gamma-2.0"]


@pytest.mark.slow
def test_a_package_that_does_not_fit_can_be_kept(index: Path, tmp_path: Path) -> None:
    found = collect_wheels(NODE, tmp_path / "out", requirements=["beta<3", "torch>=3"], keep=["Torch"])
    assert names(found.folder) == ["beta-2.0"]
    assert found.kept == (("torch", "2.13.1+cu130", ">=3"),)


@pytest.mark.slow
def test_what_cannot_be_is_one_line_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"pip download: .*; the machine's gamma stands in the way"):
        collect_wheels(NODE, out, requirements=["beta>=3"])
    assert not out.exists()
    with pytest.raises(ConfigError, match="--keep gama: the machine has no such package; did you mean"):
        collect_wheels(NODE, out, requirements=["alpha"], keep=["gama"])
    with pytest.raises(ConfigError, match="expected a new folder"):
        collect_wheels(NODE, index, requirements=["alpha"])
    with pytest.raises(ConfigError, match="--extra gpu: expected one of all, "):
        collect_wheels(NODE, out, extras=["gpu"])


def test_a_machine_is_known_by_what_its_pip_says(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    path.write_bytes(
        subprocess.run([sys.executable, "-m", "pip", "inspect"], capture_output=True, check=True).stdout
    )
    node = read_node(path)
    assert node.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert {"numpy", "scikit-learn"} <= set(node.installed)
    path.write_text(json.dumps([{"name": "Some_Thing", "version": "1"}]))
    assert read_node(path, python="3.12") == Node(
        python="3.12", machine="x86_64", installed={"some-thing": "1"}
    )
    with pytest.raises(ConfigError, match=r"add --python, such as 3\.12"):
        read_node(path)
    with pytest.raises(ConfigError, match=r"--python: expected a version such as 3\.12, got '3'"):
        read_node(path, python="3")
    with pytest.raises(ConfigError, match="--machine: expected x86_64 or aarch64"):
        read_node(path, python="3.12", machine="ppc")
    for bad in ("", "{}", "[1]", "Package Version\n"):
        path.write_text(bad)
        with pytest.raises(ConfigError, match=r"expected what `python3 -m pip inspect` prints there"):
            read_node(path, python="3.12")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_node(tmp_path / "none.json")


def test_wheels_of_the_c_library_and_of_older_ones_are_taken() -> None:
    tags = platform_options(28, "x86_64")[1::2]
    assert tags[0] == "manylinux_2_28_x86_64"
    assert "manylinux2014_x86_64" in tags
    assert "manylinux_2_34_x86_64" not in tags
    assert "manylinux2014_x86_64" in platform_options(17, "x86_64")
