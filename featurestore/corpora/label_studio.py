"""Exports of Label Studio (JSON and JSON-MIN): labelled regions of audio, and choices about whole files.

https://labelstud.io/guide/task_format: an export is a list of tasks. A task has the ``data`` that was shown
and ``annotations``, each a list of results; what was said of one region are several results with one ``id``.
JSON-MIN has neither ids nor annotations: results stand beside the data, under the names of their controls.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from featurestore.corpora.annotations import (
    AUDIO_OPTION,
    Annotations,
    annotation_format,
    label_table,
    require_few_cells,
    stacked,
)
from featurestore.corpora.audio_files import ALL_SUFFIXES, name_some
from featurestore.corpora.interface import Draft
from featurestore.errors import LabelError, ManifestError
from featurestore.manifest.labels import join_labels
from featurestore.printable import counted
from featurestore.untrusted.documents import DocumentError, read_json_document

# What a control says, by its type, and the key of the value that it stands under.
_KEYS = {
    "labels": "labels",
    "choices": "choices",
    "taxonomy": "taxonomy",
    "textarea": "text",
    "rating": "rating",
    "number": "number",
    "datetime": "datetime",
}
# A region that was drawn and not labelled.
_BARE = "audio"
# Keys of JSON-MIN that are neither data nor results.
_OF_TASK = frozenset(("id", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"))
_UPLOAD = re.compile(r"/data/upload/(?:\d+/)?")
_UPLOAD_MARK = re.compile(r"[0-9a-f]{8}-")
_LOCAL_FILES = "/data/local-files/"


@dataclass
class _Region:
    """A stretch of audio, or the whole of it where there are no times, and what was said of it by control."""

    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = None
    name: str = ""
    cells: dict[str, str] = field(default_factory=dict)


@dataclass
class _Tally:
    """What is told of all exports together: tasks and annotations that gave no row, and results not read."""

    n_cancelled: int = 0
    n_empty: int = 0
    n_several: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        said = []
        if self.n_cancelled:
            said.append(f"left out {counted(self.n_cancelled, 'annotation')} that were cancelled")
        if self.n_empty:
            said.append(f"{counted(self.n_empty, 'task')} without any result, which give no row")
        if self.n_several:
            said.append(
                f"{counted(self.n_several, 'task')} with several annotations, whose rows are all kept; the "
                "column 'annotator' tells them apart"
            )
        if self.others:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.others.items()))
            said.append(f"left out results that are no regions of audio and no labels: {kinds}")
        return said


def read(source: Path, *, audio: str | Path | None = None, audio_column: str | None = None) -> Draft:
    """Read one export or all below a folder.

    A task without regions gives one row for its whole file, if anything was said of it. What was said of a
    whole file also stands in the rows of its regions; so do texts and numbers of the task's data.

    Args:
        source: the export or the folder.
        audio: folder that paths count from.
        audio_column: key of the task's data that names the audio, where several do.
    """
    annotations = Annotations(source, audio, (".json",))
    tally = _Tally()
    tables = [_rows(file, annotations, audio_column, tally) for file in annotations.files]
    rows = stacked(tables)
    notes = [*tally.notes(), *annotations.renamed_note()]
    if (rows["channel"].fillna(0) == 0).all():
        # Without split channels Label Studio writes 0, whatever the file has.
        rows = rows.drop(columns="channel")
    else:
        notes.append("regions of separate channels, so 0 is taken for the first channel and not for all")
    return annotations.draft(rows, notes)


def _rows(file: str, annotations: Annotations, audio_column: str | None, tally: _Tally) -> pd.DataFrame:
    path = annotations.folder / file
    try:
        tasks = read_json_document(path)
    except DocumentError as error:
        raise ManifestError(f"{path}: {error}; expected an export of Label Studio in JSON") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ManifestError(f"{path}: expected a list of tasks; export as JSON or JSON-MIN from Label Studio")
    shown = [_data(task) for task in tasks]
    key = _audio_key(shown, audio_column, path)
    found: list[tuple[str, dict[str, str], list[_Region]]] = []
    for number, (task, data) in enumerate(zip(tasks, shown, strict=True), start=1):
        where = f"{path}: task {task.get('id', number)}"
        name = data.get(key)
        if not isinstance(name, str) or not name.strip():
            raise ManifestError(f"{where}: expected the name of its audio in {key!r}, got {name!r}")
        try:
            regions = _of_task(task, key, where, tally)
        except LabelError as error:
            raise ManifestError(f"{where}: {error}") from None
        facts = {k: _text(v) for k, v in data.items() if k != key and _is_plain(v)} if _is_full(task) else {}
        found.append((annotations.of_first(_names(name), file), facts, regions))
    if any(r.start_s is not None for _, _, regions in found for r in regions) and not any(
        map(_is_full, tasks)
    ):
        # Beside regions, what JSON-MIN says of a file without any may be its data alone.
        found = [(sound, facts, [r for r in rs if r.start_s is not None]) for sound, facts, rs in found]
    tally.n_empty += sum(not regions for _, _, regions in found)
    require_few_cells(
        max((len(facts) for _, facts, _ in found), default=0), sum(len(r) for _, _, r in found), path
    )
    cells = [
        (
            {"file": sound, "start_s": r.start_s, "end_s": r.end_s, "channel": r.channel},
            facts | r.cells,
            r.name,
        )
        for sound, facts, regions in found
        for r in regions
    ]
    table = label_table([said for _, said, _ in cells], path)
    own = annotations.label_columns(table, [str(c) for c in table.columns])
    rows = pd.DataFrame([at for at, _, _ in cells], columns=["file", "start_s", "end_s", "channel"])
    rows = rows.astype({"file": "str", "start_s": "float64", "end_s": "float64", "channel": "Int64"})
    return rows.assign(**own, selection=pd.Series([name for _, _, name in cells], dtype="str"))


def _is_full(task: Mapping[str, Any]) -> bool:
    """Whether a task is one of the JSON export and not of JSON-MIN."""
    return isinstance(task.get("data"), dict)


def _data(task: Mapping[str, Any]) -> Mapping[str, Any]:
    data: Mapping[str, Any] = task["data"] if _is_full(task) else task
    return data


def _audio_key(shown: list[Mapping[str, Any]], asked: str | None, path: Path) -> str:
    keys = list(dict.fromkeys(k for data in shown for k in data))
    offered = ", ".join(map(repr, keys)) or "nothing"
    if asked is not None:
        if asked in keys:
            return asked
        raise ManifestError(f"{path}: no {asked!r} in the data of its tasks; there is {offered}")
    found = list(dict.fromkeys(k for data in shown for k, v in data.items() if _names_audio(v)))
    if len(found) != 1:
        has = ", ".join(map(repr, found)) if found else f"none among {offered}"
        raise ManifestError(
            f"{path}: expected one key of the tasks' data that names audio, found {has}; name it with "
            "--audio-column"
        )
    return found[0]


def _names_audio(value: Any) -> bool:
    return isinstance(value, str) and _names(value)[-1].lower().endswith(tuple(ALL_SUFFIXES))


def _names(written: str) -> list[str]:
    """What may be the name of a task's audio on this machine, the most exact first.

    An uploaded file got eight hexadecimal digits in front of its name; a local file is named from the root of
    local files; of a URL the path counts, whose end is looked for as that of an absolute path is.
    """
    try:
        parts = urlsplit(written.strip())
    except ValueError:  # such as a bracket that is not closed: a name, and no URL
        return [written.strip()]
    if parts.path.endswith(_LOCAL_FILES) and "d=" in parts.query:
        return [unquote(parts.query.split("d=", 1)[1].split("&", 1)[0]).lstrip("/")]
    if (upload := _UPLOAD.search(parts.path)) and (parts.scheme or upload.start() == 0):
        name = unquote(parts.path[upload.end() :])
        return list(dict.fromkeys([name, _UPLOAD_MARK.sub("", name, count=1)]))
    if "://" in written:
        path = parts.path if parts.scheme not in ("http", "https") else unquote(parts.path)
        return ["/" + path.lstrip("/")]
    return [written.strip()]


def _of_task(task: Mapping[str, Any], key: str, where: str, tally: _Tally) -> list[_Region]:
    """What gives rows of a task.

    Raises:
        ManifestError, LabelError: a result that is none.
    """
    if not _is_full(task):
        return _of_min(task, key, where)
    given = task.get("annotations", task.get("completions", []))
    if not isinstance(given, list) or not all(isinstance(a, dict) for a in given):
        raise ManifestError(f"{where}: expected a list of annotations, got {str(given)[:40]!r}")
    done = [a for a in given if not a.get("was_cancelled")]
    tally.n_cancelled += len(given) - len(done)
    tally.n_several += len(done) > 1
    found: list[_Region] = []
    for annotation in done:
        results = annotation.get("result")
        if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
            raise ManifestError(f"{where}: expected a list 'result', got {str(results)[:40]!r}")
        regions = _of_results(results, where, tally)
        if by := _annotator(annotation.get("completed_by")):
            for region in regions:
                region.cells.setdefault("annotator", by)
        found += regions
    return found


def _annotator(by: Any) -> str:
    return str(by.get("email") or by.get("id") or "") if isinstance(by, dict) else _text(by)


def _of_results(results: list[dict[str, Any]], where: str, tally: _Tally) -> list[_Region]:
    """Regions of one annotation in the order they were drawn; the whole file where it has none."""
    regions: dict[str, _Region] = {}
    whole = _Region()
    for result in results:
        kind, value = str(result.get("type")), result.get("value")
        if kind not in (*_KEYS, _BARE) or not isinstance(value, dict):
            tally.others[kind] += 1
            continue
        name = str(result.get("id", ""))
        at = f"{where}: result {name!r}"
        region = regions.get(name, whole)
        if "start" in value or "end" in value:
            timed = _timed(value, name, at)
            region = regions.setdefault(name, timed)
            if (region.start_s, region.end_s) != (timed.start_s, timed.end_s):
                raise ManifestError(
                    f"{at}: from {region.start_s} to {region.end_s} s and from {timed.start_s} to "
                    f"{timed.end_s} s; expected one region for an id"
                )
        if kind != _BARE:
            control = str(result.get("from_name", kind))
            region.cells[control] = _said(kind, value.get(_KEYS[kind]), at)
    require_few_cells(len(whole.cells), len(regions), where)
    for region in regions.values():
        region.cells = {**whole.cells, **region.cells}
    return list(regions.values()) or ([whole] if whole.cells else [])


def _of_min(task: Mapping[str, Any], key: str, where: str) -> list[_Region]:
    """Regions of a task of JSON-MIN: of several controls they are one where their times are."""
    regions: list[_Region] = []
    at_times: dict[tuple[Any, ...], list[_Region]] = {}
    whole: dict[str, str] = {}
    for control, value in task.items():
        if control == key or control in _OF_TASK:
            continue
        if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for number, one in enumerate(value, start=1):
                at = f"{where}: {control!r} number {number}"
                if "start" not in one:
                    raise ManifestError(
                        f"{at}: expected start and end of a region, got {name_some(list(one))}"
                    )
                timed = _timed(one, "", at)
                there = at_times.setdefault((timed.start_s, timed.end_s, timed.channel), [])
                if (new := _with_said(there, timed, control, one, at)) is not None:
                    regions.append(new)
                    there.append(new)
            continue
        inner = value.get("choices") if isinstance(value, dict) else value
        if isinstance(inner, list) and all(_is_plain(v) for v in inner):
            whole[control] = _joined([_text(v) for v in inner])
        elif _is_plain(value):
            whole[control] = _text(value)
    require_few_cells(len(whole), len(regions), where)
    for region in regions:
        region.cells = {**whole, **region.cells}
    return regions or ([_Region(cells=whole)] if set(whole) - {"annotator"} else [])


def _with_said(
    there: list[_Region], timed: _Region, control: str, value: Mapping[str, Any], at: str
) -> _Region | None:
    """Put what a control says into the region of its times that it has not spoken of; None, or a new one."""
    kind = next((k for k, inner in _KEYS.items() if inner in value), None)
    said = "" if kind is None else _said(kind, value[_KEYS[kind]], at)
    for region in there:
        if control not in region.cells:
            region.cells[control] = said
            return None
    timed.cells[control] = said
    return timed


def _timed(value: Mapping[str, Any], name: str, at: str) -> _Region:
    times = [value.get("start"), value.get("end")]
    if not all(isinstance(t, int | float) and not isinstance(t, bool) for t in times):
        raise ManifestError(f"{at}: expected start and end in seconds, got {times[0]!r} and {times[1]!r}")
    channel = value.get("channel")
    if channel is not None and not (isinstance(channel, int) and 0 <= channel < 1 << 15):
        raise ManifestError(f"{at}: expected a channel counted from 0, got {channel!r}")
    return _Region(float(times[0] or 0), float(times[1] or 0), channel, name)


def _said(kind: str, value: Any, at: str) -> str:
    """The cell of what a control says; several labels are a set."""
    if kind == "textarea" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return " ".join(value)
    if kind == "taxonomy" and isinstance(value, list) and all(isinstance(v, list) for v in value):
        return _joined(["/".join(map(_text, steps)) for steps in value])
    if isinstance(value, list) and all(_is_plain(v) for v in value):
        return _joined([_text(v) for v in value])
    if _is_plain(value):
        return _text(value)
    raise ManifestError(f"{at}: expected {kind}, got {str(value)[:40]!r}")


def _joined(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else join_labels(texts) if texts else ""


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


LABEL_STUDIO = annotation_format(
    "label-studio",
    "Label Studio exports",
    read,
    options={
        "audio": AUDIO_OPTION,
        "audio_column": "key of the tasks' data that names the audio, where several do",
    },
)
