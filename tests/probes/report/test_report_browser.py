"""The page in a real browser: no console message, no request, charts, filters, sorting, narrow screens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
from browser import BROWSER, NAMES, Page
from report_results import write_results
from whole_report import write_whole

from probes.report import load_report_data
from probes.report.html import render_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(NAMES)} on the PATH"),
]
DRAWN = "document.body.dataset.drawn !== undefined"
CURVE = "document.querySelectorAll('#q1-layer-curve svg .mark-symbol path[aria-label]').length"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_page(load_report_data(write_results(tmp_path_factory.mktemp("results"))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_page(load_report_data(write_whole(tmp_path_factory.mktemp("whole"))))


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


@pytest.mark.skipif(
    find_spec("axe_playwright_python") is None, reason="needs axe-playwright-python (--no-deps)"
)
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(whole: str, opened: Callable[..., Page], dark: bool) -> None:
    page = opened(whole, width=1440, dark=dark)
    page.wait(DRAWN)
    page.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.value(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8") + ";0")
    told = "v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html).join(' ')"
    assert page.value(f"axe.run().then(r => r.violations.map(v => {told}))") == []
