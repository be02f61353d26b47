"""What benchmarks/layers_attention.py records stands on the page as it was recorded."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import layers_attention

    return sys.modules[layers_attention.__name__]


def test_the_tables_of_the_page_are_those_that_were_recorded(benchmark: ModuleType) -> None:
    page = benchmark.PAGE.read_text("utf-8")
    shown = page.split(benchmark.BEGIN)[1].split(benchmark.END)[0].strip()
    assert shown.count("| attention |") >= 2
    assert shown == benchmark.on_page(benchmark.RESULTS.read_text("utf-8"))


def test_a_corpus_replaces_what_was_recorded_of_it_alone(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RESULTS", "PAGE"):
        monkeypatch.setattr(benchmark, name, tmp_path / name)
    (tmp_path / "PAGE").write_text(f"above\n{benchmark.BEGIN}\nold\n{benchmark.END}\nbelow\n", "utf-8")
    benchmark.record("## one × m\n\nfirst\n")
    benchmark.record("## two × m\n\nsecond\n")
    benchmark.record("## one × m\n\nthird\n")
    recorded = (tmp_path / "RESULTS").read_text("utf-8")
    assert recorded == "# Layers and attention\n\n## two × m\n\nsecond\n\n## one × m\n\nthird\n"
    begin, end = benchmark.BEGIN, benchmark.END
    assert (tmp_path / "PAGE").read_text("utf-8") == (
        f"above\n{begin}\n**two × m**\n\nsecond\n\n**one × m**\n\nthird\n{end}\nbelow\n"
    )
