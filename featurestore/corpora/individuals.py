"""Individual birds of three species: the lists of Stowell et al. 2019, songs and background.

Every clip has a 1 in the column of its individual. Background is what sounds at the place of a bird between
its songs: a classifier that tells individuals by it knows places.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.corpora.audio_files import clip_rows, list_files, name_some
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import read_text_table, refuse_row
from featurestore.errors import ConfigError, ManifestError, did_you_mean
from featurestore.printable import counted

FILE = "wavfilename"
CONDITIONS = ("fg", "bg")
_PARTS = {"trn": "train", "tst": "test"}
_LIST = re.compile(r"(?P<task>(?P<species>[^-/]+)-[^-/]+)-(?P<condition>fg|bg)-(?P<part>trn|tst)\.csv", re.I)
# Where clips lie besides: in these folders of the copy.
_FOLDERS = ("", "wav", "audio")
_YES, _NO = ("1", "1.0"), ("", "0", "0.0")


def read(source: Path, *, task: str | None = None, condition: str = CONDITIONS[0]) -> Draft:
    """Read the two lists of a task.

    Args:
        source: folder of the copy.
        task: species and span, such as ``pipit-withinyear``; default the only one there is.
        condition: ``fg``: songs; ``bg``: the same places without them.
    """
    if condition not in CONDITIONS:
        raise ConfigError(f"--condition: expected {' or '.join(CONDITIONS)}, got {condition!r}")
    files = list_files(source, [".csv"])
    found = {f: m for f in files if (m := _LIST.fullmatch(PurePosixPath(f).name))}
    tasks = sorted({m["task"] for m in found.values()})
    if not tasks:
        raise ManifestError(
            f"{source}: expected lists such as pipit-withinyear-fg-trn.csv, found none; other tables: "
            f"{name_some(files) or 'none'}"
        )
    if task is None and len(tasks) > 1:
        raise ConfigError(f"corpus individuals: say with --task which; there is {', '.join(tasks)}")
    chosen = task or tasks[0]
    if chosen not in tasks:
        raise ConfigError(
            f"corpus individuals has no task {chosen!r} here; there is {', '.join(tasks)}"
            f"{did_you_mean(chosen, tasks)}"
        )
    tables = []
    for part in _PARTS:
        lists = [
            f for f, m in found.items() if m.group("task", "condition", "part") == (chosen, condition, part)
        ]
        if len(lists) != 1:
            raise ManifestError(
                f"{source}: expected one list {chosen}-{condition}-{part}.csv, found "
                f"{name_some(lists) or 'none'}"
            )
        tables.append(_rows(source, lists[0], found[lists[0]]["species"], condition, part))
    rows = pd.concat(tables, ignore_index=True)
    return Draft(rows=rows, notes=_untrained(rows))


def _rows(source: Path, file: str, species: str, condition: str, part: str) -> pd.DataFrame:
    path = source / file
    table = read_text_table(path, (FILE,), filled=(FILE,))
    marks = table.drop(columns=FILE).apply(lambda cells: cells.str.strip())
    if not len(marks.columns):
        raise ManifestError(f"{path}: expected a column for each individual behind {FILE!r}, found none")
    is_yes = marks.isin(_YES)
    strange = ~(is_yes | marks.isin(_NO)).all(axis=1)
    refuse_row(
        strange, path, lambda i: f"expected 1 or nothing for each individual, got {_strange(marks, i)!r}"
    )
    n_marked = is_yes.sum(axis=1)
    refuse_row(
        n_marked != 1,
        path,
        lambda i: (
            f"expected a 1 for one individual, got {counted(int(n_marked[i]), 'such cell')}; correct it"
        ),
    )
    folder = _folder(source, PurePosixPath(file).parent, f"{species}-{condition}")
    names = table[FILE].str.strip().map(lambda name: str(folder / name))
    return clip_rows(source, names).assign(
        split=_PARTS[part], individual=is_yes.idxmax(axis=1).str.strip(), condition=condition
    )


def _strange(marks: pd.DataFrame, row: int) -> str:
    return next(str(cell) for cell in marks.loc[row] if cell not in (*_YES, *_NO))


def _folder(source: Path, beside: PurePosixPath, name: str) -> PurePosixPath:
    """The folder of the clips, relative; where none is there, the one that is expected."""
    places = [*(PurePosixPath(f) for f in _FOLDERS), beside, beside.parent]
    return next((p / name for p in places if (source / p / name).is_dir()), PurePosixPath(name))


def _untrained(rows: pd.DataFrame) -> tuple[str, ...]:
    is_train = rows["split"] == "train"
    lost = sorted(set(rows["individual"][~is_train]) - set(rows["individual"][is_train]))
    return (f"tested and not trained: {name_some(lost)}",) if lost else ()


INDIVIDUALS = Corpus(
    name="individuals",
    title="individuals of little owl, chiffchaff and tree pipit",
    licence="see the source",
    citation="D. Stowell, T. Petrusková, M. Šálek, P. Linhart. J. R. Soc. Interface 16 (2019), 20180940",
    where="https://doi.org/10.5281/zenodo.1413495",
    groups={},
    options={
        "task": "species and span, such as pipit-withinyear (default: the only one)",
        "condition": "fg: songs; bg: the same places without them (default: fg)",
    },
    reader=read,
)
