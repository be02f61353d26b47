"""BEANS, the benchmark of animal sounds: twelve tasks in the folders that its scripts prepare.

A classification task is a table and a folder of clips; a detection task is cut into windows whose
labels are joined with ``|`` (see `featurestore.manifest.labels`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import pandas as pd

from featurestore.corpora import esc50, watkins
from featurestore.corpora.audio_files import clip_rows, first_file, list_files, name_some, stem
from featurestore.corpora.detection_windows import LabelledStretch, cut_windows
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.split_parts import PART_FILES, part_of
from featurestore.corpora.tables import look_up, read_text_table
from featurestore.errors import ConfigError, ManifestError
from featurestore.printable import counted
from featurestore.untrusted.documents import parse_json

# humbugdb: species with at most this many clips become "others" (BEANS, scripts/humbugdb.py).
HUMBUG_RARE = 100
LONGEST_S = 366 * 86_400.0  # no recording is longer than a year: the number is no length in seconds


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A detection task, as BEANS' `datasets.yml` has it.

    Attributes:
        label: name of the label column.
        window_s, shift_s: width and step of the windows, seconds.
        labels: the classes; other is the class that takes all remaining labels, None if there is none.
    """

    label: str
    window_s: float
    shift_s: float
    labels: tuple[str, ...]
    other: str | None = None


# Folder that BEANS' scripts make -> task.
FOLDERS = {
    "dogs": "dogs",
    "egyptian_fruit_bats": "bats",
    "bats": "bats",
    "cbi": "cbi",
    "HumBugDB": "humbugdb",
    "humbugdb": "humbugdb",
    "watkins": "watkins",
    "esc50": "esc50",
    "dcase": "dcase",
    "enabirds": "enabirds",
    "hiceas": "hiceas",
    "rfcx": "rfcx",
    "hainan_gibbons": "gibbons",
    "gibbons": "gibbons",
}

_DCASE = "AMRE BBWA BTBW CALL CCMK CHSP COYE GCTH GIG GRN OVEN Q RBGR SAVS SNMK SQT SWTH WTSP"
_ENABIRDS = (
    "AMCR AMGO AMRE AMRO BAWW BCCH BGGN BHCO BHVI BLJA BTNW BWWA CARW COYE EATO HETH HOWA "
    "KEWA LOWA NOCA NOFL OVEN RBGR RBWO RCKI REVI SCTA SWTH TUTI WBNU WITU WOTH YBCU OTHR"
)
DETECTION = {
    "dcase": Detection(label="species", window_s=2, shift_s=1, labels=tuple(_DCASE.split())),
    "enabirds": Detection(
        label="species", window_s=2, shift_s=1, labels=tuple(_ENABIRDS.split()), other="OTHR"
    ),
    "hiceas": Detection(label="minke_whale", window_s=10, shift_s=5, labels=("1",)),
    "rfcx": Detection(label="species", window_s=10, shift_s=5, labels=tuple(str(i) for i in range(24))),
    "gibbons": Detection(label="calltype", window_s=4, shift_s=2, labels=("1", "2", "3"), other="1"),
}


def read(source: Path, *, task: str | None = None) -> Draft:
    """Read one task of BEANS; `source` is the task's folder or the one that holds all of them."""
    name = task if task is not None else FOLDERS.get(source.name, "")
    if name not in FOLDERS.values():
        raise ConfigError(
            f"corpus beans: expected a task, one of {', '.join(sorted(set(FOLDERS.values())))}; "
            f"got {task or 'none'}; give it with --task"
        )
    folders = [f for f, t in FOLDERS.items() if t == name]
    inner = [source / f for f in folders if (source / f).is_dir()]
    root = inner[0] if inner and source.name not in folders else source
    if name in DETECTION:
        return _detection(root, DETECTION[name])
    return _CLASSIFICATION[name](root)


def _dogs(root: Path) -> Draft:
    table = read_text_table(root / "annotations.csv", ("filename", "name"), filled=("filename",))
    labels = ["name", *(c for c in ("context", "age", "weight", "sex", "breed") if c in table)]
    file = [_converted(root, f) for f in table["filename"]]
    groups = {}
    if "context" in table:
        groups["session"] = table["name"] + " " + table["context"]
    return _draft(root, file, table[labels], groups)


def _bats(root: Path) -> Draft:
    table = read_text_table(root / "annotations.csv", ("Emitter", "File Name"), filled=("File Name",))
    labels = table[["Emitter"]].rename(columns={"Emitter": "emitter"})
    return _draft(root, "audio/" + table["File Name"], labels, {})


def _cbi(root: Path) -> Draft:
    columns = ("ebird_code", "filename", "recordist")
    table = read_text_table(root / "train.csv", columns, filled=("filename",))
    file = "wav/" + table["filename"].map(stem) + ".wav"
    return _draft(root, file, table[["ebird_code"]], {"recordist": table["recordist"]})


def _humbugdb(root: Path) -> Draft:
    folder = root / "data/metadata"
    tables = [f for f in list_files(folder, (".csv",)) if f.startswith("neurips_2021_zenodo")]
    if not tables:
        raise ManifestError(f"{folder}: expected neurips_2021_zenodo_0_0_1.csv here, found no such")
    table = read_text_table(folder / tables[-1], ("id", "species"), filled=("id",))
    species = table["species"].where(table["species"] != "", "non-mosquito")
    frequent = species.map(species.value_counts()) > HUMBUG_RARE
    labels = pd.DataFrame({"species": species.where(frequent, "others")})
    groups = {"recording": table["name"]} if "name" in table else {}
    notes: tuple[str, ...] = ()
    if not frequent.all():
        notes = (f"put {counted(int((~frequent).sum()), 'row')} of rare species into 'others'",)
    file = "data/audio/" + table["id"] + ".wav"
    return _draft(root, file, labels, groups, notes, split_files="data/metadata/{part}.csv")


def _watkins(root: Path) -> Draft:
    draft = watkins.read(root)
    keep = draft.rows["species"] != "Weddell_Seal"
    rows = draft.rows[keep].reset_index(drop=True)
    tape = draft.groups["tape"][keep].reset_index(drop=True)
    note = f"dropped {counted(int((~keep).sum()), 'row')} of Weddell_Seal, as BEANS does"
    return _draft(root, rows["file"], rows[["species"]], {"tape": tape}, (note,))


def _esc50(root: Path) -> Draft:
    draft = esc50.read(root)
    # BEANS: folds 1 to 3 train, 4 validates, 5 tests.
    split = look_up(draft.rows["fold"], {"4": "val", "5": "test"}, "train")
    return Draft(rows=draft.rows.assign(split=split), groups=draft.groups, notes=draft.notes)


_CLASSIFICATION: dict[str, Callable[[Path], Draft]] = {
    "bats": _bats,
    "cbi": _cbi,
    "dogs": _dogs,
    "esc50": _esc50,
    "humbugdb": _humbugdb,
    "watkins": _watkins,
}


def _converted(root: Path, filename: str) -> str:
    """BEANS converts clips into ``wav/``; without that folder the originals in ``audio/`` serve."""
    if (root / "wav").is_dir():
        return f"wav/{stem(filename)}.wav"
    return f"audio/{filename}"


def _draft(
    root: Path,
    file: pd.Series | list[str],
    labels: pd.DataFrame,
    groups: dict[str, pd.Series],
    notes: tuple[str, ...] = (),
    *,
    split_files: str = "annotations.{part}.csv",
) -> Draft:
    """Put a classification task together; `split` is filled where BEANS' split files lie beside it."""
    files = pd.Series(file, index=labels.index, dtype="str")
    listed = {part: root / split_files.format(part=part) for part in PART_FILES}
    paths = {
        part_of(part): read_text_table(path, ("path",))["path"]
        for part, path in listed.items()
        if path.is_file()
    }
    names = _ends(files, 1)
    if paths and not names.is_unique:
        # Same name in two folders: compare the last two parts instead.
        split = {end: part for part, named in paths.items() for end in _ends(named, 2)}
        names = _ends(files, 2)
    else:
        split = {end: part for part, named in paths.items() for end in _ends(named, 1)}
        times = Counter(end for named in paths.values() for end in set(_ends(named, 1)))
        if doubtful := sorted(end for end in set(names) if times[end] > 1):
            several = root / split_files.format(part="*")
            raise ManifestError(f"{several}: {doubtful[0]!r} stands in two of them; keep it in one")
    split_of_row = look_up(names, split)
    said = list(notes)
    if split and (split_of_row == "").any():
        lone = files[split_of_row == ""]
        said.append(f"{counted(len(lone), 'row')} in none of BEANS' parts: {name_some(list(lone))}")
    if not split:
        said.append(f"no {split_files.format(part='train')} beside the data: split left empty")
    rows = clip_rows(root, files, split=split_of_row)
    return Draft(rows=pd.concat([rows, labels], axis=1), groups=groups, notes=tuple(said))


def _ends(paths: pd.Series, n: int) -> pd.Series:
    """The last `n` parts of each path."""
    return paths.str.rsplit("/", n=n).str[-n:].str.join("/")


def _detection(root: Path, task: Detection) -> Draft:
    """Windows of every recording in ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl``, in that order."""
    first_file(root, [f"{part}.jsonl" for part in PART_FILES])
    cells: list[tuple[str, float, float, str, str]] = []
    renamed: Counter[str] = Counter()
    too_short: list[str] = []
    for part in PART_FILES:
        listed = root / f"{part}.jsonl"
        if not listed.is_file():
            continue
        for number, line in _lines(listed):
            file, length_s, events = _recording(line, task, f"{listed}: line {number}", renamed)
            windows = cut_windows(length_s, events, window_s=task.window_s, shift_s=task.shift_s)
            cells += [(file, w.start_s, w.end_s, part_of(part), w.label) for w in windows]
            if not windows:
                too_short.append(file)
    rows = pd.DataFrame(cells, columns=["file", "start_s", "end_s", "split", task.label])
    files = {f: _locate(root, f) for f in rows["file"].unique()}
    taken: dict[str, str] = {}
    for written, found in files.items():
        if taken.setdefault(found, written) != written:
            raise ManifestError(
                f"{root}: {taken[found]!r} and {written!r} would both be {found}; keep their folders"
            )
    rows = pd.concat([clip_rows(root, rows.pop("file").map(files).astype("str")), rows], axis=1)
    notes = []
    if renamed:
        said = ", ".join(f"{k} ({n})" for k, n in sorted(renamed.items()))
        notes.append(f"counted as {task.other}, as BEANS does: {said}")
    if too_short:
        notes.append(f"no window fits into {counted(len(too_short), 'file')}: {name_some(too_short)}")
    # dcase, enabirds and gibbons were cut into chunks named <recording>.<3 digits>.wav
    recording = rows["file"].map(stem).str.replace(r"\.\d{3}$", "", regex=True)
    return Draft(rows=rows, groups={"recording": recording}, notes=tuple(notes))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that hold something."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    return ((n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())


def _recording(
    line: str, task: Detection, where: str, renamed: Counter[str]
) -> tuple[str, float, list[LabelledStretch]]:
    try:
        entry = parse_json(line)
        file, length_s = str(entry["path"]), float(entry["length"])
        marks = [(float(a["st"]), float(a["ed"]), str(a["label"])) for a in list(entry["annotations"])]
        if not file.strip() or not 0 <= length_s <= LONGEST_S:
            raise ValueError(f"a path and a length of 0 to {LONGEST_S:.0f} s are needed")
        if not all(isfinite(t) for start_s, end_s, _ in marks for t in (start_s, end_s)):
            raise ValueError("st and ed must be finite")
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{where}: expected an object with path, length and annotations of st, ed and label; "
            f"got {line[:60]!r} ({type(error).__name__}: {error})"
        ) from None
    events = []
    for start_s, end_s, label in marks:
        if label not in task.labels:
            if task.other is None:
                raise ManifestError(
                    f"{where}: label {label!r} is none of BEANS' for this task: "
                    f"{', '.join(task.labels)}; correct it"
                )
            renamed[label] += 1
            label = task.other
        events.append(LabelledStretch(start_s=start_s, end_s=end_s, label=label))
    return file, length_s, events


def _locate(root: Path, written: str) -> str:
    """Name below `root` of a file that BEANS wrote as ``data/<folder>/wav/x.wav``."""
    parts = written.split("/")
    inner = "/".join(parts[2:]) if parts[0] == "data" and len(parts) > 2 else written
    names = (inner, written, f"wav/{parts[-1]}")
    return next((name for name in names if os.path.isfile(root / name)), inner)


BEANS = Corpus(
    name="beans",
    title="BEANS, the benchmark of animal sounds",
    licence="differs by task; see each source",
    citation=(
        "M. Hagiwara et al. BEANS: The Benchmark of Animal Sounds. ICASSP 2023. arXiv:2210.12300; "
        "and the paper of each task"
    ),
    where="https://github.com/earthspecies/beans (scripts/download_data.sh)",
    groups={
        "recordist": "cbi: who made the recording",
        "recording": "humbugdb and detection tasks: the recording that clips or chunks were cut from",
        "session": "dogs: one dog in one context (inferred)",
        "source_file": "esc50: the Freesound recording a clip was cut from",
        "tape": "watkins: the tape a clip was cut from (inferred)",
    },
    options={"task": "which task: " + ", ".join(sorted(set(FOLDERS.values())))},
    reader=read,
)
