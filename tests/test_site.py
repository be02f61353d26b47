"""The documentation site builds without a warning, its tutorials run, and it needs no network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import cli

# One process builds it, for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("site")]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; sources are copied, so that nothing is left in the checkout."""
    for package in ("sphinx", "myst_nb", "sphinx_click", "sphinx_copybutton", "furo"):
        pytest.importorskip(package, reason="pip install -e '.[docs]'", exc_type=ImportError)
    sources = tmp_path_factory.mktemp("site")
    ignore = shutil.ignore_patterns("_build", "jupyter_execute")
    shutil.copytree(ROOT / "docs", sources / "docs", ignore=ignore)
    for other in ("benchmarks", "studies", "featurestore", "probes", "extractors", "cli.py"):
        (sources / other).symlink_to(ROOT / other)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "docs", "html"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=sources, text=True, capture_output=True, env=quiet, timeout=850)
    assert done.returncode == 0, done.stderr[-4000:]
    return sources / "html"


def test_the_tutorials_print_what_they_found(site: Path) -> None:
    page = (site / "tutorials" / "own_recordings.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    assert "326 clips embedded, 0 failed" in text
    assert "95 % interval" in text
    assert "Traceback" not in text
    # What the prose says is so: BirdNET tells the calls, features without order in time do not.
    tables = dict(re.findall(r"chosen +.*?(\d+\.\d) ± [\d.]+ \([^)]*\) +(\d+\.\d)", text))
    (network, mfcc), *_ = tables.items()
    assert float(network) > 90 > 70 > float(mfcc)


def test_the_finchs_page_says_whether_more_songs_would_help(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "tutorials" / "finch.html").read_text(encoding="utf-8"))
    assert "logmel/finch: 325 clips embedded, 0 failed" in text
    few, many = (
        float(re.search(rf"mfcc layer 0 .*?^ +{share} +\d+ +\d+ +([\d.]+)", text, re.S | re.M)[1])  # type: ignore[index]
        for share in (17, 100)
    )
    assert 20 < few < many
    assert "from 67 to 100 % of the training groups UAR" in text


def test_every_page_is_there_and_nothing_is_fetched(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    sources = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    assert sources <= {page.relative_to(site).with_suffix("") for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(https?://[^\"]+)", text)
        assert not fetched, (page, fetched)
    assert (site / "searchindex.js").stat().st_size > 100_000


def test_every_command_is_on_the_page_of_commands(site: Path) -> None:
    text = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'<section id="(fs[\w-]*)"', text))

    def below(command: click.Command, name: str) -> Iterator[str]:
        yield name
        if isinstance(command, click.Group):
            context = click.Context(command)
            for word in command.list_commands(context):
                found = command.get_command(context, word)
                assert found is not None
                yield from below(found, f"{name}-{word}")

    there = set(below(cli.main, "fs"))
    assert {"fs-manifest-raven", "fs-manifest-attach", "fs-study-run"} <= there
    assert shown == there


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    lost = []
    for page in site.rglob("*.html"):
        for link in re.findall(r'<a [^>]*href="([^"]+)"', page.read_text(encoding="utf-8")):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link) or link == "#":
                continue
            there = (page.parent / target).resolve() if target else page
            named = f'id="{anchor}"' if anchor and there.suffix == ".html" else ""
            if not there.exists() or named not in there.read_text(encoding="utf-8"):
                lost.append(f"{page.name}: {link}")
    assert not lost
