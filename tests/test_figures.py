"""Pages quote what the programs of their figures find, and have no figure that is not there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "figures"))
    return importlib.import_module(request.param)


def quoted(page: str) -> str:
    return " ".join((DOCS / "explained" / f"{page}.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("figure", ["uar"], indirect=True)
def test_uar_is_as_quoted(figure: ModuleType) -> None:
    assert [claim for claim in figure.claims() if claim not in quoted("uar")] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "found"),
    [("intervals", "test_parts"), ("choosing", "choices")],  # of batches: test_parity.py
    indirect=["figure"],
)
def test_what_was_found_is_as_quoted(figure: ModuleType, found: str) -> None:
    claims = figure.claims(getattr(figure, found)())
    assert claims
    assert [claim for claim in claims if claim not in quoted(figure.__name__)] == []


def test_every_figure_is_there_and_says_what_it_shows() -> None:
    for page in (DOCS / "explained").glob("*.md"):
        [(alt, file)] = re.findall(
            r"!\[([^\]]*)\]\(\.\./images/([\w.-]+)\)", page.read_text(encoding="utf-8")
        )
        assert len(alt) > 80
        assert (DOCS / "images" / file).is_file()
