"""How a study beside its paper looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.printable import plain
from studies.terminal.screen import console

if TYPE_CHECKING:
    from studies.paper_table.published import PaperName
    from studies.study_file.reading import StudyFile
    from studies.study_run.facts import Facts


def show_paper_table(file: StudyFile, facts: Mapping[str, Facts], name: PaperName, out: Path) -> None:
    """Write the study beside its paper into the report's folder, and show it."""
    from rich.table import Table

    from studies.paper_table.files import paper_table, write_paper_table

    found = paper_table(file, facts, name)
    paths = write_paper_table(found, out)
    screen = console()
    for one in found.tables:
        table = Table(title=plain(one.title), title_justify="left", box=None)
        for head in one.heads:
            table.add_column(plain(head))
        for row in one.rows:
            table.add_row(*map(plain, row))
        screen.print(table)
    for line in (found.caption, *(said[0] for said in found.sentences.values()), *found.disagreements):
        screen.print(plain(line))
    screen.print(f"beside the paper: {', '.join(map(str, paths))}")
