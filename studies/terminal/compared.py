"""How the comparison of two results folders looks in a terminal."""

from __future__ import annotations

from pathlib import Path

from featurestore.printable import counted
from probes.compared.compared_files import write_comparison
from probes.compared.run_differences import run_differences
from probes.statistics import NOT_CONTAINED
from studies.terminal.progress import stages_done
from studies.terminal.screen import console

SHOWN = 12


def compare_results(a: Path, b: Path, out: Path, *, quiet: bool = False) -> None:
    """Compare two results folders, write the page and the table, and say what was found.

    Args:
        a: One folder of `fs probe`.
        b: The other; differences are A less B.
        out: Folder of page and table.
        quiet: No progress bar.
    """
    with stages_done(quiet=quiet) as told:
        found, paths = write_comparison(a, b, out, told)
    screen = console()
    screen.print(f"A: {a}")
    screen.print(f"B: {b}")
    for sentence in found.sentences():
        screen.print(sentence)
    differences = run_differences(found.a, found.b)
    screen.print("What differs between the runs:" if differences else "Nothing recorded differs otherwise.")
    for one in differences[:SHOWN]:
        screen.print(f"  {one.what}: A {one.a}; B {one.b}")
    if len(differences) > SHOWN:
        screen.print(f"  {counted(len(differences) - SHOWN, 'difference')} more on the page")
    screen.print(NOT_CONTAINED, style="dim")
    screen.print(f"table: {paths.csv}")
    screen.print(f"page: {paths.html.resolve()}")
