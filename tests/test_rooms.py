"""The house keeps its order: small rooms, a sentence over each door, and tests in rooms of the same names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("featurestore", "extractors", "probes", "studies")
MOST_MODULES = 18
# One file per corpus or annotation format.
REGISTRIES = {"featurestore/corpora"}
ROOMS = sorted(
    p.parent.relative_to(ROOT).as_posix() for name in PACKAGES for p in (ROOT / name).rglob("__init__.py")
)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_has_a_sentence_over_its_door(room: str) -> None:
    modules = [p for p in (ROOT / room).glob("*.py") if p.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES or room in REGISTRIES
    docstring = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text("utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


def test_every_module_lies_in_a_room() -> None:
    modules = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]
    assert sorted({p.parent.relative_to(ROOT).as_posix() for p in modules}) == ROOMS


def test_tests_lie_in_rooms_of_the_same_names() -> None:
    folders = {p.parent.relative_to(ROOT / "tests").as_posix() for p in (ROOT / "tests").rglob("test_*.py")}
    assert folders - {".", *ROOMS} == set()
