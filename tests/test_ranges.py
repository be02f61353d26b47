"""What pyproject.toml admits is what `make test-lowest` installs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
_BOUND = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_every_lower_bound_is_pinned_where_the_lowest_are_tested(project: dict[str, Any]) -> None:
    parts = project["optional-dependencies"]
    # avex brings a torchaudio, and with it another torch.
    admitted = [
        *project["dependencies"],
        *(r for name, part in parts.items() if name != "avex" for r in part),
    ]
    bounds = dict(found.groups() for r in admitted if (found := _BOUND.match(r)))
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert len(bounds) > 30
    assert {name: pins.get(name) for name in bounds} == bounds
    # Nothing that is needed to run goes without a bound.
    assert all(_BOUND.match(r) for r in project["dependencies"])


def test_the_classifiers_begin_with_the_lowest_python(project: dict[str, Any]) -> None:
    prefix = "Programming Language :: Python :: "
    named = [c.removeprefix(prefix) for c in project["classifiers"] if c.startswith(prefix)]
    assert project["requires-python"] == f">={named[0]}"
