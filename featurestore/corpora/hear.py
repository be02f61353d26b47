"""Tasks of the HEAR benchmark, in its common format.

Scene tasks give one row per clip, event tasks one row per event or, with a window, one per window.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.audio.blocks import SoundError, read_header
from featurestore.corpora.audio_files import bare_name
from featurestore.corpora.detection_windows import LabelledStretch, cut_windows
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.split_parts import PART_FILES, part_of
from featurestore.corpora.tables import look_up, read_text_table
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.labels import join_labels, split_labels
from featurestore.names import is_whole_number
from featurestore.printable import counted
from featurestore.untrusted.documents import DocumentError, read_json_document

_METADATA = "task_metadata.json"


def read(
    source: Path,
    *,
    task: str | None = None,
    sample_rate_hz: int | None = None,
    window_s: float | None = None,
    shift_s: float | None = None,
) -> Draft:
    """Read one task folder, split by split in the order of its metadata, files in stored order."""
    root = _task_folder(source, task)
    metadata = _json(root / _METADATA)
    rate = _rate_folder(root, sample_rate_hz)
    named = metadata.get("splits")
    parts = [str(s) for s in named] if isinstance(named, list) and named else _parts(root)
    events = metadata.get("embedding_type") == "event"
    _check_windows(root, events, window_s, shift_s)
    cells: list[dict[str, object]] = []
    for part in parts:
        listed = root / f"{part}.json"
        for name, marks in _json(listed).items():
            file, where = f"{rate}/{part}/{name}", f"{listed}: {name!r}"
            base = {"file": file, "path": str(root / file), "part": part}
            if events:
                found = _stretches(root / file, marks, where, window_s, shift_s)
                cells += [{**base, **vars(stretch)} for stretch in found]
            else:
                cells.append({**base, "label": _scene(marks, metadata, where)})
    rows = pd.DataFrame(cells, columns=None if cells else ["file", "path", "part", "label"])
    known = {part: part_of(part) for part in parts}
    folds = bool(parts) and not any(known.values())
    if not folds and not all(known.values()):
        odd = next(part for part, ours in known.items() if not ours)
        raise ManifestError(
            f"{root / _METADATA}: expected splits like train, valid and test, got {odd!r} too"
        )
    rows["split"] = look_up(rows["part"], known)
    own = rows.pop("part")
    groups = {}
    if folds:
        groups["fold"] = rows["fold"] = own
    elif events:
        groups["file"] = rows["file"].map(bare_name)
    return Draft(rows=rows, groups=groups, notes=_vocabulary_notes(root, rows))


def _check_windows(root: Path, events: bool, window_s: float | None, shift_s: float | None) -> None:
    if not events and window_s is not None:
        raise ConfigError(f"{root}: windows are for event tasks, this is a task of whole scenes")
    if (window_s is None) != (shift_s is None):
        raise ConfigError("corpus hear: --window-s and --shift-s belong together; give both or none")
    if not all(w is None or (isfinite(w) and w > 0) for w in (window_s, shift_s)):
        raise ConfigError(f"corpus hear: expected seconds above 0, got {window_s:g} and {shift_s:g}")


def _task_folder(source: Path, task: str | None) -> Path:
    if (source / _METADATA).is_file():
        return source
    inside = source / "tasks" if (source / "tasks").is_dir() else source
    found = sorted(p.parent for p in inside.glob(f"*/{_METADATA}"))
    if task is not None:
        # Folders are named <task>-<version>; the version may be left out.
        found = [p for p in found if p.name == task or p.name.startswith(f"{task}-")]
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise ManifestError(
            f"{source}: expected one folder with {_METADATA}, found {names}; name it with --task"
        )
    return found[0]


def _rate_folder(root: Path, sample_rate_hz: int | None) -> str:
    rates = sorted((p.name for p in root.iterdir() if is_whole_number(p.name) and p.is_dir()), key=int)
    if sample_rate_hz is not None:
        if str(sample_rate_hz) not in rates:
            raise ConfigError(f"{root}: no audio at {sample_rate_hz} Hz; there is {', '.join(rates)}")
        return str(sample_rate_hz)
    return rates[-1] if rates else "48000"  # what HEAR publishes


def _parts(root: Path) -> list[str]:
    names = sorted(p.stem for p in root.glob("*.json") if p.name != _METADATA)
    known = [p for p in PART_FILES if p in names]
    return known or [n for n in names if n.startswith("fold")]


def _marks(marks: Any, where: str) -> list[Any]:
    if not isinstance(marks, list):
        raise ManifestError(f"{where}: expected a list, got {str(marks)[:60]!r}; correct it")
    return marks


def _scene(marks: Any, metadata: dict[str, Any], where: str) -> str:
    labels = _marks([marks] if isinstance(marks, str) else marks, where)
    if not all(isinstance(label, str | int) for label in labels):
        raise ManifestError(f"{where}: expected labels, got {str(marks)[:60]!r}; correct it")
    if metadata.get("prediction_type") == "multilabel":
        return join_labels(map(str, labels))
    if len(labels) != 1:
        kind = metadata.get("prediction_type")
        raise ManifestError(f"{where}: expected one label for a clip of a {kind} task, got {labels!r}")
    return str(labels[0])


def _stretches(
    path: Path, marks: Any, where: str, window_s: float | None, shift_s: float | None
) -> list[LabelledStretch]:
    """The events of a recording, or its windows where these are asked for."""
    events = [_event(m, where) for m in _marks(marks, where)]
    if window_s is None or shift_s is None:
        return events
    if not path.is_file():  # one row, so that it is reported as missing
        return [LabelledStretch(start_s=0.0, end_s=window_s, label=join_labels(()))]
    try:
        header = read_header(str(path), entire=True)
    except SoundError as error:
        raise ManifestError(f"{path}: {error}, so it cannot be cut into windows; replace the file") from None
    return cut_windows(header.n_frames / header.sample_rate_hz, events, window_s=window_s, shift_s=shift_s)


def _event(mark: Any, where: str) -> LabelledStretch:
    """One event; HEAR counts in milliseconds."""
    try:
        start_s, end_s, label = float(mark["start"]) / 1000, float(mark["end"]) / 1000, str(mark["label"])
    except (KeyError, TypeError, ValueError):
        start_s = end_s = float("nan")
        label = ""
    if not (isfinite(start_s) and isfinite(end_s)):
        got = str(mark)[:60]
        raise ManifestError(f"{where}: expected label, start and end (ms) of each event, got {got!r}")
    return LabelledStretch(start_s=start_s, end_s=end_s, label=label)


def _vocabulary_notes(root: Path, rows: pd.DataFrame) -> tuple[str, ...]:
    listed = root / "labelvocabulary.csv"
    if not listed.is_file():
        return ()
    known = set(read_text_table(listed, ("idx", "label"))["label"])
    used = {label for cell in rows["label"].unique() for label in split_labels(cell) or ()}
    strangers = sorted(used - known)
    if not strangers:
        return ()
    return (f"{counted(len(strangers), 'label')} not in labelvocabulary.csv: {', '.join(strangers[:10])}",)


def _json(path: Path) -> dict[str, Any]:
    try:
        content: Any = read_json_document(path)
    except DocumentError as error:
        raise ManifestError(f"{path}: {error}; expected it in a HEAR task folder") from None
    if not isinstance(content, dict):
        raise ManifestError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


HEAR = Corpus(
    name="hear",
    title="HEAR benchmark tasks",
    licence="differs by task; see the record",
    citation=(
        "J. Turian et al. HEAR: Holistic Evaluation of Audio Representations. NeurIPS 2021 Competitions "
        "and Demonstrations Track, PMLR 176 (2022), 125-145"
    ),
    where="https://doi.org/10.5281/zenodo.5802571 (48 kHz)",
    groups={
        "fold": "one of the task's own folds",
        "file": "event tasks: the recording that events or windows stand in",
    },
    options={
        "task": "which task folder, where the source holds several",
        "sample_rate_hz": "which rate's audio to use (default: the highest there)",
        "window_s": "event tasks: cut windows of so many seconds instead of one row per event",
        "shift_s": "event tasks: seconds between the starts of two windows",
    },
    reader=read,
)
