"""BEANS, the benchmark of animal sounds: twelve tasks in the folders that its scripts prepare.

A classification task is a table and a folder of clips; a detection task is cut into windows whose
labels are joined with ``|`` (see `featurestore.manifest.labels`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path

import pandas as pd

from featurestore.corpora import watkins
from featurestore.corpora.beans_tasks import DETECTION, FOLDERS, Detection
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import (
    clip_rows,
    count,
    first_file,
    list_files,
    look_up,
    name_some,
    read_text_table,
    stem,
)
from featurestore.corpora.windows import Event, cut_windows
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.labels import join_labels
from featurestore.untrusted.documents import parse_json

PARTS = {"train": "train", "valid": "val", "test": "test"}
# humbugdb: species with at most this many clips become "others" (BEANS, scripts/humbugdb.py).
HUMBUG_RARE = 100
LONGEST_S = 366 * 86_400.0  # no recording is longer than a year: the number is no length in seconds


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
    return _draft(root, file, table[labels], groups, "annotations.{part}.csv")


def _bats(root: Path) -> Draft:
    table = read_text_table(root / "annotations.csv", ("Emitter", "File Name"), filled=("File Name",))
    labels = table[["Emitter"]].rename(columns={"Emitter": "emitter"})
    return _draft(root, "audio/" + table["File Name"], labels, {}, "annotations.{part}.csv")


def _cbi(root: Path) -> Draft:
    columns = ("ebird_code", "filename", "recordist")
    table = read_text_table(root / "train.csv", columns, filled=("filename",))
    file = "wav/" + table["filename"].map(stem) + ".wav"
    groups = {"recordist": table["recordist"]}
    return _draft(root, file, table[["ebird_code"]], groups, "annotations.{part}.csv")


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
    notes = (
        (f"put {count(int((~frequent).sum()), 'row')} of rare species into 'others'",)
        if not frequent.all()
        else ()
    )
    return _draft(
        root,
        "data/audio/" + table["id"] + ".wav",
        labels,
        groups,
        "data/metadata/{part}.csv",
        notes,
    )


def _watkins(root: Path) -> Draft:
    draft = watkins.read(root)
    keep = draft.rows["species"] != "Weddell_Seal"
    rows = draft.rows[keep].reset_index(drop=True)
    tape = draft.groups["tape"][keep].reset_index(drop=True)
    note = f"dropped {count(int((~keep).sum()), 'row')} of Weddell_Seal, as BEANS does"
    return _draft(root, rows["file"], rows[["species"]], {"tape": tape}, "annotations.{part}.csv", (note,))


def _esc50(root: Path) -> Draft:
    from featurestore.corpora import esc50

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
    split_files: str,
    notes: tuple[str, ...] = (),
) -> Draft:
    """Put a classification task together; `split` is filled where BEANS' split files lie beside it."""
    files = pd.Series(file, index=labels.index, dtype="str")
    split: dict[str, str] = {}
    twice: set[str] = set()
    for part, ours in PARTS.items():
        listed = root / split_files.format(part=part)
        if listed.is_file():
            named = read_text_table(listed, ("path",))["path"].map(lambda p: str(p).rsplit("/", 1)[-1])
            twice |= {*named} & {*split}
            split |= dict.fromkeys(named, ours)
    names = files.str.rsplit("/", n=1).str[-1]
    if split and not names.is_unique:
        # Same name in two folders: compare the last two parts instead.
        split = _split_by_two(root, split_files)
        names = files.str.rsplit("/", n=2).str[-2:].str.join("/")
    elif doubtful := sorted(twice & set(names)):
        raise ManifestError(
            f"{root / split_files.format(part='*')}: {doubtful[0]!r} stands in two of them; keep it in one"
        )
    part_of = look_up(names, split)
    said = list(notes)
    if split and (part_of == "").any():
        lone = files[part_of == ""]
        said.append(f"{count(len(lone), 'row')} in none of BEANS' parts: {name_some(list(lone))}")
    if not split:
        said.append(f"no {split_files.format(part='train')} beside the data: split left empty")
    rows = clip_rows(root, files, split=part_of)
    return Draft(rows=pd.concat([rows, labels], axis=1), groups=groups, notes=tuple(said))


def _split_by_two(root: Path, split_files: str) -> dict[str, str]:
    split: dict[str, str] = {}
    for part, ours in PARTS.items():
        listed = root / split_files.format(part=part)
        if listed.is_file():
            paths = read_text_table(listed, ("path",))["path"]
            split |= {"/".join(str(p).split("/")[-2:]): ours for p in paths}
    return split


def _detection(root: Path, task: Detection) -> Draft:
    """Windows of every recording in ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl``, in that order."""
    first_file(root, [f"{part}.jsonl" for part in PARTS])
    cells: list[tuple[str, float, float, str, str]] = []
    renamed: dict[str, int] = {}
    too_short: list[str] = []
    for part, ours in PARTS.items():
        listed = root / f"{part}.jsonl"
        if not listed.is_file():
            continue
        for number, line in _lines(listed):
            file, length_s, events = _recording(line, task, f"{listed}: line {number}", renamed)
            windows = cut_windows(length_s, events, window_s=task.window_s, shift_s=task.shift_s)
            cells += [(file, w.start_s, w.end_s, ours, join_labels(w.labels)) for w in windows]
            if not windows:
                too_short.append(file)
    rows = pd.DataFrame(cells, columns=["file", "start_s", "end_s", "split", task.label])
    if not cells:
        return Draft(rows=rows.assign(path=""))
    files = {f: _locate(root, f) for f in rows["file"].unique()}
    taken: dict[str, str] = {}
    for written, (found, _) in files.items():
        if taken.setdefault(found, written) != written:
            raise ManifestError(
                f"{root}: {taken[found]!r} and {written!r} would both be {found}; keep their folders"
            )
    rows["file"] = rows["file"].map({f: found for f, (found, _) in files.items()})
    rows.insert(1, "path", rows["file"].map(dict(files.values())))
    notes = []
    if renamed:
        said = ", ".join(f"{k} ({n})" for k, n in sorted(renamed.items()))
        notes.append(f"counted as {task.other}, as BEANS does: {said}")
    if too_short:
        notes.append(f"no window fits into {count(len(too_short), 'file')}: {name_some(too_short)}")
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
    line: str, task: Detection, where: str, renamed: dict[str, int]
) -> tuple[str, float, list[Event]]:
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
            renamed[label] = renamed.get(label, 0) + 1
            label = task.other
        events.append(Event(start_s=start_s, end_s=end_s, label=label))
    return file, length_s, events


def _locate(root: Path, written: str) -> tuple[str, str]:
    """Name below `root` and absolute path of a file that BEANS wrote as ``data/<folder>/wav/x.wav``."""
    parts = written.split("/")
    inner = "/".join(parts[2:]) if parts[0] == "data" and len(parts) > 2 else written
    for name in (inner, written, f"wav/{parts[-1]}"):
        if (root / name).is_file():
            return name, str(root / name)
    return inner, str(root / inner)


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
