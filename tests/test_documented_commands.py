"""Every `fs` command in README and docs is one that there is, with options that there are.

The tutorials run when the site is built, recipes in test_recipes.py; this looks at all, without running it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import cli

ROOT = Path(__file__).parent.parent
NOT_OURS = {"_build", "results", "jupyter_execute"}  # what the site's building leaves among the pages
DOCS = sorted(p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *(ROOT / "docs" / p for p in DOCS if p.parts[0] not in NOT_OURS)]
BLOCK = re.compile(r"^```(?:sh|bash|console|\{code-cell\})\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(fs [a-z][^`]*)`")
PLACEHOLDERS = re.compile(r"…|\.\.\.|[<>|\[\]]")


def commands(text: str) -> list[str]:
    """The `fs` commands of a page, each on one line."""
    found = []
    for block in BLOCK.findall(text):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = re.sub(r"^[!$] ?", "", line.strip())
            if re.match(r"fs\s", line):
                found.append(" ".join(line.split()))
    return found + [" ".join(command.split()) for command in INLINE.findall(text)]


def misfit(line: str) -> str | None:
    """What is wrong with a command line: a command or an option that there is not."""
    line = re.split(r"\s(?:#|>|\||&&|&)(?:\s|$)", line)[0]
    try:
        words = shlex.split(line, comments=True)[1:]
    except ValueError:  # an apostrophe of the sentence around it
        words = line.split()[1:]
    command: click.Command = cli.main
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        word = words.pop(0)
        if word.startswith("-"):
            continue
        if PLACEHOLDERS.search(word) or word.isupper():
            return None
        below = command.get_command(context, word)
        if below is None:
            return f"no command {word!r}"
        command = below
        context = click.Context(command, parent=context)
    parameters = command.get_params(context)
    options = {name for parameter in parameters for name in [*parameter.opts, *parameter.secondary_opts]}
    for word in words:
        name = word.split("=")[0].rstrip(",.;:)")
        if re.fullmatch(r"--[a-z][\w-]*|-[a-zA-Z]", name) and name not in options:
            return f"no option {name!r}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_is_there(page: Path) -> None:
    wrong = {line: why for line in commands(page.read_text(encoding="utf-8")) if (why := misfit(line))}
    assert not wrong


def test_what_is_not_there_is_found() -> None:
    assert misfit("fs extrct --manifest m.csv") == "no command 'extrct'"
    assert misfit("fs extract --manifst m.csv") == "no option '--manifst'"
    assert misfit("fs manifest raven DIR --out m.csv") is None
    text = "```sh\nfs probe --store S \\\n   --label L\n```\nand `fs ls S`"
    assert commands(text) == ["fs probe --store S --label L", "fs ls S"]


def test_the_site_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").splitlines()
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES[1:]} - {"index"}
    assert pages <= set(index)


TESTS_BY_MARK = re.compile(r"`pytest -m (\w+)(?: -s)? (tests/[\w/]+\.py)`")


def test_tests_that_pages_name_by_a_mark_have_it() -> None:
    named = [
        (page.name, *found) for page in PAGES for found in TESTS_BY_MARK.findall(page.read_text("utf-8"))
    ]
    assert len(named) > 2
    for page, mark, file in named:
        assert re.search(rf"pytest\.mark\.{mark}\b", (ROOT / file).read_text("utf-8")), (page, mark, file)
