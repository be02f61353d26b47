"""The served page in a real browser: clips by click and by key, a sound on demand, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import recordings
from browser import BROWSER, NAMES, Page
from click.testing import CliRunner
from serving import Served, served

import cli

# Pages are made once, by one process.
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("served browser"),
    pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(NAMES)} on the PATH"),
]
DRAWN = "document.body?.dataset.drawn !== undefined"  # without a body while another page comes
ROWS = "document.querySelectorAll('#utterances tbody tr').length"
CAPTION = "document.querySelector('#utterances caption').textContent"
FIRST = "document.querySelector('#utterances tbody tr bdi').textContent"
LISTED = "Number(document.body.dataset.listed || 0)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two labels of real recordings, embedded and probed as users do it."""
    folder = tmp_path_factory.mktemp("served")
    table = recordings.write_recordings(folder, n_recordings=6)
    table.loc[table.index[::9], "call"] = "<b>odd</b>"
    table.to_csv(folder / "manifest.csv", index=False)
    store = ["--store", str(folder / "s.zarr"), "--quiet"]
    manifest = ["--manifest", str(folder / "manifest.csv"), "--dataset", "calls"]
    probe = ["--label", "call", "--label", "bird", "--split", "kfold:4", "--classifier", "logreg"]
    for words in (
        ["extract", "--model", "logmel", "--model", "mfcc", *manifest, *store],
        ["probe", *probe, *store, "--out", str(folder / "results")],
    ):
        done = CliRunner().invoke(cli.main, words)
        assert done.exit_code == 0, (done.output, done.exception)
    with served(folder / "results") as found:
        yield found


@pytest.fixture
def opened(server: Served, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def open_page(**looks: bool | int) -> Page:
        pages.append(Page(server.url, tmp_path / f"profile-{len(pages)}", **looks))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


def test_clips_by_click_and_by_key(server: Served, opened: Callable[..., Page]) -> None:
    server.wait("isReady")
    page = opened()
    page.wait(DRAWN)
    page.wait(f"{LISTED} >= 1")
    wrong = server.found("utterances", answer="wrong")
    assert page.value(ROWS) == len(wrong["rows"]) == 50
    assert page.value(CAPTION).startswith(f"{wrong['n']} of {wrong['nTested']} ")
    # Pages by mouse and by key, which stays where it was.
    page.click(".pager[data-of=utterances] button:last-child")
    page.wait("document.querySelector('.pager span').textContent.startsWith('page 2 of')")
    second = server.found("utterances", answer="wrong", page=2)
    assert page.value(FIRST) == second["rows"][0]["id"]
    page.value("document.querySelector('.pager button').focus()")
    page.press("Enter", "\r")
    page.wait(f"{FIRST} === {wrong['rows'][0]['id']!r}")
    # A text by keys, letter by letter; the page asks again when typing rests.
    page.click("#find input[name=text]")
    for letter in "b02":
        page.call("Input.insertText", {"text": letter})
    page.wait(
        "document.querySelector('#utterances caption').textContent.startsWith("
        f"'{server.found('utterances', answer='wrong', text='b02')['n']} of')"
    )
    page.click("#find button[type=reset]")
    page.wait(f"{CAPTION}.startsWith('{wrong['n']} of')")
    # A select by key: the next option is "always right".
    page.value("document.querySelector('#find select[name=answer]').focus()")
    page.press("ArrowDown")
    right = server.found("utterances", answer="right")
    page.wait(f"{CAPTION}.startsWith('{right['n']} of')")
    assert page.value("location.hash").find("answer=right") > 0
    # The filters of the whole page are those of the clips.
    page.click('#filters input[name="label"][value="bird"]')
    narrowed = server.found("utterances", answer="right", questions=1)  # by name: bird, call
    assert narrowed["n"] < right["n"]
    page.wait(f"{CAPTION}.startsWith('{narrowed['n']} of')")
    assert page.console == []


def test_a_clip_is_heard_and_seen_when_it_is_asked_for(server: Served, opened: Callable[..., Page]) -> None:
    server.wait("isReady")
    page = opened()
    page.wait(DRAWN)
    page.wait(f"{ROWS} > 3")
    assert page.value("document.querySelectorAll('#clips audio').length") == 0
    page.click("#utterances tbody tr:nth-child(2) button")
    page.wait("document.querySelector('#utterances .detail audio') !== null")
    played = (
        "(async () => { const a = document.querySelector('#utterances .detail audio'); a.muted = true; "
        "await a.play(); return [a.duration > 0.05, a.error === null]; })()"
    )
    assert page.value(played) == [True, True]
    picture = "document.querySelector('#utterances .detail img')"
    page.wait(f"{picture}.complete")
    assert page.value(f"{picture}.naturalWidth") > 100
    assert page.value("document.querySelectorAll('#utterances .detail tbody tr').length") >= 2
    # By key it goes, and comes again.
    page.value("document.querySelector('#utterances tbody tr:nth-child(2) button').focus()")
    page.press("Enter", "\r")
    page.wait("document.querySelector('#utterances .detail') === null")
    page.press(" ", " ")
    page.wait("document.querySelector('#utterances .detail audio') !== null")
    # Names are text.
    assert page.value("document.querySelectorAll('#clips b').length") == 0
    assert page.value("document.body.textContent.includes('<b>odd</b>')")
    assert page.console == []
    elsewhere = [u for u in page.requests if not u.startswith((server.url, "data:"))]
    assert elsewhere == []
    assert any("/utterance?" in u for u in page.requests)


def test_while_the_report_is_made_clips_can_be_looked_at(server: Served, opened: Callable[..., Page]) -> None:
    with served(server.results) as other:
        page = Page(other.url, server.results.parent / "profile")
        try:
            page.wait(f"{ROWS} > 3")
            # Who has begun to look is not interrupted: a button leads to the report.
            page.click("#utterances tbody tr:nth-child(1) button")
            page.wait("document.querySelector('#show')?.hidden === false")
            assert page.value("document.querySelector('#utterances .detail') !== null")
            page.click("#show")
            page.wait(DRAWN)
            page.wait(f"{ROWS} > 3")
            assert page.console == []
        finally:
            page.close()


@pytest.mark.parametrize("dark", [False, True])
def test_narrow_screens_need_no_scrolling_aside(
    server: Served, opened: Callable[..., Page], dark: bool
) -> None:
    server.wait("isReady")
    page = opened(width=390, dark=dark)
    page.wait(DRAWN)
    page.wait(f"{ROWS} > 3")
    page.click("#utterances tbody tr:nth-child(1) button")
    page.wait("document.querySelector('#utterances .detail audio') !== null")
    assert page.value("document.documentElement.scrollWidth") <= 390
