"""The page in a real browser: no console message, no request, charts, filters, sorting, narrow screens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import recordings
from browser import BROWSER, NAMES, Page
from click.testing import CliRunner
from report_results import write_results
from whole_report import write_whole

import cli
from probes.report import load_report_data
from probes.report.html import render_page

# Pages are made once, by one process.
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("report browser"),
    pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(NAMES)} on the PATH"),
]
DRAWN = "document.body.dataset.drawn !== undefined"
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
AXE = find_spec("axe_playwright_python") is not None
NO_AXE = "needs axe-playwright-python (--no-deps)"
CURVE = "document.querySelectorAll('#q1-layer-curve svg .mark-symbol path[aria-label]').length"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_page(load_report_data(write_results(tmp_path_factory.mktemp("results"))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_page(load_report_data(write_whole(tmp_path_factory.mktemp("whole"))))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten models, thirteen layers, two labels: more seeds and clips change numbers, not the page's size."""
    out = tmp_path_factory.mktemp("large") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import report as benchmark

        benchmark.made_results(out, models=10, layers=13, seeds=1, labels=2, rows=200)
    return render_page(load_report_data(out))


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with sounds, as the command line makes it."""
    folder = tmp_path_factory.mktemp("heard")
    recordings.write_recordings(folder).to_csv(folder / "manifest.csv", index=False)
    store, results, out = str(folder / "s.zarr"), str(folder / "results"), folder / "report"
    manifest = ["--manifest", str(folder / "manifest.csv"), "--dataset", "calls", "--model", "logmel"]
    for words in (
        ["extract", *manifest, "--store", store, "--quiet"],
        [
            "probe",
            "--store",
            store,
            "--label",
            "call",
            "--classifier",
            "centroid",
            "--out",
            results,
            "--quiet",
        ],
        ["report", results, "--out", str(out)],
    ):
        done = CliRunner().invoke(cli.main, words)
        assert done.exit_code == 0, (words, done.output, done.exception)
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def open_page(source: str, **looks: bool | int) -> Page:
        path = tmp_path / f"page-{len(pages)}.html"
        path.write_text(source, encoding="utf-8")
        pages.append(Page(path, tmp_path / f"profile-{len(pages)}", **looks))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


def test_page_opens_without_a_console_message_or_a_request(
    whole: str, source: str, opened: Callable[..., Page]
) -> None:
    page = opened(whole)
    page.wait(DRAWN)
    assert page.console == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in page.requests if url.startswith("file:")]) == 1
    figures = page.value("document.querySelectorAll('.drawing').length")
    assert figures > 20
    drawn = "Array.from(document.querySelectorAll('.drawing'), d => d.querySelector('svg, canvas') !== null)"
    assert page.value(drawn) == [True] * figures
    # Each point of the map is there: the names of its columns are none of the filters'.
    points = "document.querySelectorAll('#inside-map-class svg .mark-symbol path').length"
    assert page.value(points) >= 400
    # The same look at a page with an error, and with a request, sees them.
    broken = opened(source.replace("</body>", "<script>nothing.here()</script></body>"))
    assert any("nothing is not defined" in text for text in broken.console)
    asking = opened(source.replace("</body>", '<img src="file:///nowhere.png"></body>'))
    asking.wait(DRAWN)
    assert any("Content Security Policy" in text for text in asking.console)


def test_filters_by_mouse_and_by_key(whole: str, opened: Callable[..., Page]) -> None:
    page = opened(whole)
    page.wait(DRAWN)
    rows = "document.querySelectorAll('#q1-layers tbody tr:not([hidden])').length"
    before, table = page.value(CURVE), page.value(rows)
    page.click('input[name="model"][value="1"]')
    page.wait("document.body.dataset.filtered === '1'")
    assert page.value(rows) == table // 2
    assert page.value(CURVE) < before
    assert "1 of 2 models" in page.value("document.getElementById('filter-state').textContent")
    # Space takes the tick away again, where the focus is.
    page.value('document.querySelector(\'input[name="model"][value="1"]\').focus()')
    page.press(" ", " ")
    page.wait("document.body.dataset.filtered === '2'")
    assert (page.value(rows), page.value(CURVE)) == (table, before)
    # Tab goes on to the next control, and the arrows of a number field choose layers.
    page.value("document.querySelector('input[name=\"lowest\"]').focus()")
    page.press("ArrowUp")
    page.wait("document.body.dataset.filtered === '3'")
    assert (
        page.value("document.querySelectorAll('#q1-layers tr[data-layer=\"0\"]:not([hidden])').length") == 0
    )
    page.press("Tab")
    assert page.value("document.activeElement.name") == "highest"
    # A label takes its questions with it: cards, charts and tables.
    page.click('input[name="label"][value="caller"]')
    page.wait("document.body.dataset.filtered === '4'")
    shown = page.value(
        "Array.from(document.querySelectorAll('.answer:not([hidden]) h2'), h => h.textContent)"
    )
    assert shown == ["call", "call"]
    assert page.value("document.querySelector('#q3-layer-curve').closest('figure').hidden")
    page.click('button[type="reset"]')
    page.wait("document.body.dataset.filtered === '5'")
    assert (page.value(rows), page.value(CURVE)) == (table, before)
    assert page.console == []


@pytest.mark.parametrize("dark", [False, True])
def test_narrow_screens_need_no_scrolling_aside(whole: str, opened: Callable[..., Page], dark: bool) -> None:
    page = opened(whole, width=390, dark=dark)
    page.wait(DRAWN)
    page.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.value("document.documentElement.scrollWidth") <= 390
    drawings = "document.querySelectorAll('.drawing svg, .drawing canvas')"
    assert max(page.value(f"Array.from({drawings}, e => e.getBoundingClientRect().right)")) <= 390
    ink = page.value("getComputedStyle(document.querySelector('#q1-layer-curve .role-axis-label text')).fill")
    assert ink == ("rgb(233, 231, 225)" if dark else "rgb(27, 27, 25)")


def test_heads_stand_above_their_columns(whole: str, opened: Callable[..., Page]) -> None:
    page = opened(whole)
    page.wait(DRAWN)
    page.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    left = "(row => row.cells[0].getBoundingClientRect().left)"
    tables = "[...document.querySelectorAll('table')].filter(t => t.tHead && t.tBodies[0]?.rows.length)"
    apart = f"Math.abs({left}(t.tHead.rows[0]) - {left}(t.tBodies[0].rows[0])) > 1"
    assert page.value(f"{tables}.length") > 5
    assert page.value(f"{tables}.filter(t => {apart}).map(t => t.caption.textContent)") == []


def test_what_a_screen_reader_needs_is_there(whole: str, opened: Callable[..., Page]) -> None:
    page = opened(whole)
    page.wait(DRAWN)
    levels = page.value("Array.from(document.querySelectorAll('h1, h2, h3, h4'), h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    lacking = "Array.from(document.querySelectorAll({}), e => e.outerHTML.slice(0, 80))"
    assert page.value(lacking.format("'table:not(:has(caption))'")) == []
    assert page.value(lacking.format("'th:not([scope])'")) == []
    assert page.value(lacking.format("'figure:not(:has(figcaption))'")) == []
    unnamed = "Array.from(document.querySelectorAll('input')).filter(i => !i.labels.length).length"
    assert page.value(unnamed) == 0
    named = page.value("Array.from(document.querySelectorAll('.drawing'), d => d.getAttribute('aria-label'))")
    assert all(len(text) > 20 for text in named)
    page.press("Tab")
    assert page.value("document.activeElement.className") == "skip"
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize(("column", "clicks", "reverse"), [(2, 1, True), (2, 2, False), (0, 1, False)])
def test_a_column_head_sorts(
    source: str, opened: Callable[..., Page], column: int, clicks: int, reverse: bool
) -> None:
    page = opened(source)
    page.wait(DRAWN)
    for _ in range(clicks):
        page.click(f"#q1-layers thead th:nth-child({column + 1}) button")
    cells = page.value(
        "Array.from(document.getElementById('q1-layers').tBodies[0].rows, "
        f"row => row.cells[{column}].textContent.trim())"
    )
    assert len(cells) == 7
    values = [float(cell) for cell in cells] if column else [cell.lower() for cell in cells]
    assert values == sorted(values, reverse=reverse)
    sort = page.value(
        f"document.querySelector('#q1-layers thead th:nth-child({column + 1})').getAttribute('aria-sort')"
    )
    assert sort == ("descending" if reverse else "ascending")
    assert page.console == []


def axe_findings(page: Page, least: str = "minor") -> list[str]:
    """What axe-core finds with everything unfolded, of an impact of `least` or more."""
    page.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.value(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8") + ";0")
    impacts = ("minor", "moderate", "serious", "critical")
    told = "v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html).join(' ')"
    found: list[list[str]] = page.value(f"axe.run().then(r => r.violations.map(v => [v.impact, {told}]))")
    return [text for impact, text in found if impacts.index(impact) >= impacts.index(least)]


@pytest.mark.skipif(not AXE, reason=NO_AXE)
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(whole: str, opened: Callable[..., Page], dark: bool) -> None:
    page = opened(whole, width=1440, dark=dark)
    page.wait(DRAWN)
    assert axe_findings(page) == []


@pytest.mark.slow
@pytest.mark.skipif(not AXE, reason=NO_AXE)
@pytest.mark.parametrize(("width", "dark"), [(1440, True), (390, False)])
def test_axe_finds_nothing_serious_among_sounds(
    heard: str, opened: Callable[..., Page], width: int, dark: bool
) -> None:
    page = opened(heard, width=width, dark=dark)
    page.wait(DRAWN)
    assert axe_findings(page, "serious") == []
    assert page.value("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_a_large_page_opens_quietly_and_its_filters_work(large: str, opened: Callable[..., Page]) -> None:
    assert len(large.encode()) < 15e6
    page = opened(large)
    page.wait(DRAWN)
    rows = "document.querySelectorAll('#q1-layers tbody tr:not([hidden])').length"
    marks = page.value(CURVE)
    assert (page.value(rows), marks > 0) == (10 * 13, True)
    page.click('input[name="model"][value="3"]')
    page.wait("document.body.dataset.filtered === '1'")
    assert page.value(rows) == 9 * 13
    assert page.value(CURVE) < marks
    page.press(" ", " ")  # the focus is where the mouse was
    page.wait("document.body.dataset.filtered === '2'")
    assert (page.value(rows), page.value(CURVE)) == (10 * 13, marks)
    # How firmly ten layers are chosen is one line until it is unfolded.
    assert page.value("document.querySelectorAll('.answer details .findings li').length") == 20
    assert not page.value("document.querySelector('.answer details').open")
    assert page.console == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.slow
def test_a_clip_plays(heard: str, opened: Callable[..., Page]) -> None:
    page = opened(heard)
    page.wait(DRAWN)
    clips = page.value("document.querySelectorAll('#sounds audio').length")
    assert clips > 3
    page.value("document.querySelector('#sounds audio').focus()")
    page.press(" ", " ")
    page.wait("document.querySelector('#sounds audio').currentTime > 0.05")
    assert page.value("document.querySelector('#sounds audio').error") is None
    shown = "Array.from(document.querySelectorAll('#sounds details[open] img'), i => i.naturalWidth > 0)"
    page.value("document.querySelector('#sounds details[open] img').scrollIntoView()")
    page.wait(f"{shown}[0]")
    assert page.console == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
