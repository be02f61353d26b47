"""The record of `coverage.py`: its sections, made anew one by one, and the tables of the docs from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from coverage_worlds import GROUPS, Setting, shares

TITLES = {
    "crossed": "Intervals of UAR",
    "layouts": "Other layouts, seeds and folds",
    "metrics": "Other metrics",
    "tests": "Comparisons of equal models",
    "contrasts": "Contrasts of sets of models",
    "choices": "Choices among 13 layers",
}


def with_section(page: str, section: str) -> str:
    """A record with one section made anew, in the order of `TITLES`."""
    parts = {part.partition("\n")[0]: f"## {part}".strip() for part in page.split("\n## ")[1:]}
    parts[section.partition("\n")[0].removeprefix("## ")] = section.strip()
    return "\n\n".join(["# Coverage", *(parts[t] for t in TITLES.values() if t in parts)]) + "\n"


def digest(page: str) -> list[str]:
    """Tables of ``docs/statistics.md`` of a record: intervals, what tests do, choices of layers."""
    tables = ([*table] for table in (_intervals(page), _tests(page), _choices(page)))
    return [line for table in tables if len(table) > 2 for line in (*table, "")][:-1]


def _intervals(page: str) -> Iterator[str]:
    """Coverage of UAR by groups, in brackets in how many of 100 an interval is given."""
    cells: dict[tuple[str, ...], dict[int, str]] = {}
    for row in _rows(page, "crossed"):
        found = f"{row['covers %']} ({row['given %']})"
        cells.setdefault((row["imbalance"], row["effect"], row["UAR"]), {})[int(row["groups"])] = found
    yield from _head(["imbalance", "group effect", "UAR", *(f"{g} groups" for g in GROUPS)])
    for key, by_groups in cells.items():
        yield _line([*key, *(by_groups.get(g, "") for g in GROUPS)])


def _tests(page: str) -> Iterator[str]:
    """How often equal models, and equal sets of models, are told apart: means over settings."""
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for table, column in (("tests", "rejects equal models %"), ("contrasts", "rejects equal sets %")):
        for row in _rows(page, table):
            of = found.setdefault((row["imbalance"], int(row["groups"])), {})
            for name in ("given %", column, "difference covers %"):
                if row[name]:
                    of.setdefault(f"{table} {name}", []).append(float(row[name]))
    heads = ["imbalance", "groups", "clips of the rarest class", "given %", "equal models told apart %"]
    yield from _head([*heads, "equal sets told apart %", "differences of sets covered %"])
    names = ("tests given %", "tests rejects equal models %", "contrasts rejects equal sets %")
    for (imbalance, groups), of in sorted(found.items()):
        setting = Setting(groups=groups, uar=0.7, ratio=float(imbalance.removeprefix("1:")))
        rarest = groups * setting.clips * shares(setting).min()
        values = [of.get(name, []) for name in (*names, "contrasts difference covers %")]
        yield _line(
            [imbalance, f"{groups}", f"{rarest:.0f}", *(f"{np.mean(v):.1f}" if v else "" for v in values)]
        )


def _choices(page: str) -> Iterator[str]:
    """Of classes that are as frequent."""
    heads = ["layers", "groups", "holds the best layer %", "layers in it", "share of the chosen %"]
    heads += ["fresh sets choose it %", "the best is chosen %"]
    yield from _head(heads)
    for row in _rows(page, "choices"):
        if row["imbalance"] == "1:1":
            yield _line([row[name] for name in heads])


def _rows(page: str, table: str) -> Iterator[dict[str, str]]:
    """Rows of one table of a record by their heads; none where it was not made."""
    part = page.partition(f"\n## {TITLES[table]}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    for cells in lines[1:]:
        yield dict(zip(lines[0], [*map(str.strip, cells), *[""] * len(lines[0])], strict=False))


def _head(names: list[str]) -> Iterator[str]:
    yield _line(names)
    yield "|--:" * len(names) + "|"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
