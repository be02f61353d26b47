"""The page in a real browser: no console message, no request, heads that sort."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_results import write_results

from probes.report import load_report_data
from probes.report.html import render_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)} on the PATH"),
]


def _open(source: str, folder: Path) -> tuple[str, list[str]]:
    """Document after its scripts ran, and the console's messages."""
    page = folder / "page.html"
    page.write_text(source, encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --enable-logging=stderr"
    )
    done = subprocess.run(
        [str(BROWSER), *flags.split(), f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_page(load_report_data(write_results(tmp_path_factory.mktemp("results"))))


def test_page_opens_without_a_console_message(source: str, tmp_path: Path) -> None:
    _, messages = _open(source, tmp_path)
    assert messages == []
    # The same look at a page with an error sees it.
    broken = source.replace("</body>", "<script>nothing.here()</script></body>")
    assert _open(broken, tmp_path)[1] != []


def test_requests_are_refused_by_the_page_itself(source: str, tmp_path: Path) -> None:
    asking = source.replace("</body>", '<img src="file:///nowhere.png"></body>')
    (message, *_) = _open(asking, tmp_path)[1]
    assert "Content Security Policy" in message


@pytest.mark.parametrize(("column", "clicks", "reverse"), [(2, 1, True), (2, 2, False), (0, 1, False)])
def test_a_column_head_sorts(source: str, tmp_path: Path, column: int, clicks: int, reverse: bool) -> None:
    script = f"""<script>
      const table = document.getElementById("q1-layers");
      const button = table.tHead.rows[0].cells[{column}].querySelector("button");
      for (let i = 0; i < {clicks}; i++) button.click();
      const cells = Array.from(table.tBodies[0].rows, (row) => row.cells[{column}].textContent.trim());
      document.body.dataset.cells = cells.join("|");
      document.body.dataset.sort = button.parentElement.getAttribute("aria-sort");
    </script></body>"""
    dom, messages = _open(source.replace("</body>", script), tmp_path)
    assert messages == []
    found = re.search(r'data-cells="([^"]*)"', dom)
    assert found is not None
    cells = found[1].split("|")
    assert len(cells) == 7
    values = [float(cell) for cell in cells] if column else [cell.lower() for cell in cells]
    assert values == sorted(values, reverse=reverse)
    assert f'data-sort="{"descending" if reverse else "ascending"}"' in dom
