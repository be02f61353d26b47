"""The house keeps its order: small rooms, a sentence over each door, and tests in rooms of the same names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("featurestore", "extractors", "probes", "studies")
MOST_MODULES = 18
# Docstring included: what is longer is read in pieces anyway.
MOST_LINES = 60
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


def test_no_function_is_longer_than_a_page() -> None:
    modules = [ROOT / "cli.py", *(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))]
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in modules
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MOST_LINES
    ]
    assert long == []


def test_tests_lie_in_rooms_of_the_same_names() -> None:
    folders = {p.parent.relative_to(ROOT / "tests").as_posix() for p in (ROOT / "tests").rglob("test_*.py")}
    assert folders - {".", *ROOMS} == set()


def test_modules_of_pyarrow_are_imported_where_they_are_used() -> None:
    """`import pyarrow` brings none of these; pandas does, which a decoder process never imports."""
    used = re.compile(r"\bpa\.(acero|compute|csv|dataset|feather|fs|json|orc|parquet)\.")
    modules = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]
    found = [f"{p.relative_to(ROOT)}: {m[0]}" for p in modules for m in used.finditer(p.read_text("utf-8"))]
    assert found == []
