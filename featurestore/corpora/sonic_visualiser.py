"""Layers of Sonic Visualiser: saved (``.svl``), or exported as CSV with a header row.

Layers whose items have a length are read: regions, notes, and boxes. Names of columns and attributes are
those that its library writes (svcore: ``BoxModel.h``, ``RegionModel.h``, ``Event.h``). Times in a saved layer
are frames at the rate that it states, which need not be that of the file.
"""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree.ElementTree import Element

import pandas as pd

from featurestore.corpora.annotations import Annotations, annotation_format, stacked
from featurestore.corpora.audio_files import name_some, passed_over
from featurestore.corpora.interface import Draft
from featurestore.corpora.tables import exact_sum, seconds
from featurestore.errors import ManifestError
from featurestore.manifest.column_names import BOX_COLUMNS
from featurestore.printable import counted
from featurestore.spreadsheet import NUMBER
from featurestore.untrusted.documents import DocumentError
from featurestore.untrusted.text_table import FIRST_ROW, TextTableError, read_text
from featurestore.untrusted.xml_documents import read_xml_document

_SAVED = ".svl"
_DOCTYPE = "sonic-visualiser"
_HERTZ = "Hz"
# Kinds of layers whose items have a length, by the attribute of the model.
_SPANS = ("region", "note", "flexinote", "box")
_BOX_TIMES, _SPAN_TIMES = ("START", "END"), ("TIME", "DURATION")
_BOX = ("EXTENT START", "EXTENT END")
_LABEL = "LABEL"


class _OtherLayerError(ManifestError):
    """A file that may be a layer, but none whose items have a length."""


def read(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read one layer or all below a folder, each of the recording of its own name."""
    annotations = Annotations(source, audio, (_SAVED, ".csv"))
    tables, other = [], []
    for file in annotations.files:
        path = annotations.folder / file
        try:
            rows = _saved(path) if file.lower().endswith(_SAVED) else _exported(path)
        except _OtherLayerError:
            if not source.is_dir():
                raise
            other.append(file)
            continue
        rows.insert(0, "file", annotations.of_annotation(file))
        tables.append(rows)
    if not tables:
        raise ManifestError(
            f"{source}: found no layer of regions, notes or boxes; other files: {name_some(other)}"
        )
    rows = stacked(tables)
    n_blank = int((rows["label"].str.strip() == "").sum())
    blank = (f"{counted(n_blank, 'row')} without a label, which are kept",) if n_blank else ()
    return annotations.draft(
        rows, (*passed_over(other, "that are no layers of regions, notes or boxes"), *blank)
    )


def _saved(path: Path) -> pd.DataFrame:
    try:
        document = read_xml_document(path, root="sv", doctype=_DOCTYPE)
    except DocumentError as error:
        raise ManifestError(f"{path}: cannot be read as a layer of Sonic Visualiser: {error}") from None
    models = [m for m in document.iter("model") if m.get("type") == "sparse"]
    spans = [m for m in models if m.get("subtype") in _SPANS]
    if not spans:
        kinds = ", ".join(m.get("subtype") or f"{m.get('dimensions')}-dimensional" for m in models) or "none"
        raise _OtherLayerError(
            f"{path}: expected a layer of regions, notes or boxes, whose items have a length, found {kinds}"
        )
    if len(spans) > 1:
        raise ManifestError(f"{path}: expected one layer, found {len(spans)}; save each to a file of its own")
    model = spans[0]
    points = [
        p for d in document.iter("dataset") if d.get("id") == model.get("dataset") for p in d.iter("point")
    ]
    rate_hz = _number(model, "sampleRate", path)
    if rate_hz <= 0:
        raise ManifestError(f"{path}: expected a sample rate above 0, got {rate_hz:g}; save the layer again")
    starts = [_number(p, "frame", path) for p in points]
    lengths = [_number(p, "duration", path, otherwise=0.0) for p in points]
    rows = pd.DataFrame(
        {
            "start_s": [start / rate_hz for start in starts],
            "end_s": [(start + length) / rate_hz for start, length in zip(starts, lengths, strict=True)],
            "label": pd.Series([p.get("label", "") for p in points], dtype="str"),
        }
    )
    is_box = model.get("subtype") == "box" and model.get("units") == _HERTZ
    if is_box:
        lows = [_number(p, "value", path) for p in points]
        highs = [low + abs(_number(p, "extent", path)) for low, p in zip(lows, points, strict=True)]
        for column, box in zip(BOX_COLUMNS, (lows, highs), strict=True):
            rows[column] = [f"{value:.9g}" for value in box]  # of numbers in single precision
        return rows
    for name in ("value", "extent", "level"):
        if any(p.get(name) is not None for p in points):
            rows[name] = [p.get(name, "") for p in points]
    return rows


def _number(element: Element, name: str, path: Path, *, otherwise: float | None = None) -> float:
    text = element.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not NUMBER.fullmatch(text.strip()):
        raise ManifestError(
            f"{path}: expected a number in {name!r} of a {element.tag}, got {text!r}; save it again"
        )
    return float(text)


def _exported(path: Path) -> pd.DataFrame:
    """A layer exported with a header row; a row whose label is empty ends before it."""
    try:
        lines = list(csv.reader(read_text(path).splitlines(), strict=True))
    except (TextTableError, csv.Error) as error:
        raise ManifestError(f"{path}: cannot be read as a layer of Sonic Visualiser ({error})") from None
    header = [name.strip().upper() for name in lines[0]] if lines else []
    times = next((t for t in (_BOX_TIMES, _SPAN_TIMES) if set(t) <= set(header)), None)
    if times is None:
        raise _OtherLayerError(
            f"{path}: expected columns {' and '.join(_BOX_TIMES)}, or {' and '.join(_SPAN_TIMES)}, got "
            f"{', '.join(map(repr, lines[0][:10])) if lines else 'nothing'}; export a layer of regions, "
            "notes or boxes in seconds and with a header row, or save it as .svl"
        )
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise ManifestError(f"{path}: column {twice!r} stands more than once; rename or remove one")
    cells = []
    for number, line in enumerate(lines[1:], start=FIRST_ROW):
        if not any(cell.strip() for cell in line):
            continue
        full = [*line, ""] if len(line) == len(header) - 1 and header[-1] == _LABEL else line
        if len(full) != len(header):
            raise ManifestError(
                f"{path}: row {number} has {counted(len(line), 'cell')}, the first row has {len(header)}; "
                "correct it"
            )
        cells.append(full)
    table = pd.DataFrame(cells, columns=header, dtype="str")
    first, second = (seconds(table[name], path) for name in times)
    rows = pd.DataFrame({"start_s": first, "end_s": second})
    if times == _SPAN_TIMES:
        rows["end_s"] = exact_sum([table[name] for name in times])
    rows["label"] = table.get(_LABEL, "")
    named = dict(zip(_BOX, BOX_COLUMNS, strict=True))
    for name in header:
        if name not in (*times, _LABEL):
            rows[named.get(name, name.lower())] = table[name].str.strip()
    return rows


SONIC_VISUALISER = annotation_format("sonic-visualiser", "layers of Sonic Visualiser", read)
