"""Annotation files of ELAN (``.eaf``).

https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf: times are slots in milliseconds that
annotations of a tier refer to; annotations of a dependent tier refer to one of its parent instead, and have
the times of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import pandas as pd

from featurestore.corpora.annotations import (
    AUDIO_OPTION,
    Annotations,
    annotation_format,
    label_table,
    stacked,
)
from featurestore.corpora.audio_files import ALL_SUFFIXES
from featurestore.corpora.interface import Draft
from featurestore.errors import ManifestError
from featurestore.printable import counted
from featurestore.untrusted.documents import DocumentError
from featurestore.untrusted.xml_documents import read_xml_document

# The unit of all files of our days; frames of video were counted in some early ones.
_UNIT = "milliseconds"
_EVERY_TIER = "*"
_ALIGNED, _REFERRING = "ALIGNABLE_ANNOTATION", "REF_ANNOTATION"


@dataclass(frozen=True)
class _Annotation:
    """One annotation: its name, the slots that it has or the annotation that it refers to, and its text."""

    name: str
    slots: tuple[str, str] | None
    refers_to: str
    text: str


@dataclass(frozen=True)
class _Tier:
    """A tier: its name, that of its parent ("" if it has none), and its annotations."""

    name: str
    parent: str
    annotations: tuple[_Annotation, ...]

    @property
    def is_aligned(self) -> bool:
        """Whether its annotations have times of their own."""
        return any(a.slots is not None for a in self.annotations)


@dataclass
class _Tally:
    """What is told of all files together."""

    n_blank: int = 0
    n_untimed: int = 0
    shifted: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        said = []
        if self.n_blank:
            said.append(f"left out {counted(self.n_blank, 'annotation')} without text")
        if self.n_untimed:
            said.append(
                f"left out {counted(self.n_untimed, 'annotation')} without times of their own, which ELAN "
                "spreads evenly between their neighbours"
            )
        if self.shifted:
            said.append(f"times moved by the offset (TIME_ORIGIN) of the recording: {self.shifted[0]}")
        return said


def read(source: Path, *, audio: str | Path | None = None, tier: str | None = None) -> Draft:
    """Read a tier with times of its own; tiers that depend on it one to one become further columns.

    Args:
        source: the file or a folder of them.
        audio: folder of the audio.
        tier: its name; ``*`` for all, which are then told apart by a column ``tier``; default the only one.
    """
    annotations = Annotations(source, audio, (".eaf",))
    tally = _Tally()
    rows = stacked([_rows(file, annotations, tier, tally) for file in annotations.files])
    return annotations.draft(rows, [*tally.notes(), *annotations.renamed_note()])


def _rows(file: str, annotations: Annotations, name: str | None, tally: _Tally) -> pd.DataFrame:
    path = annotations.folder / file
    try:
        document = read_xml_document(path, root="ANNOTATION_DOCUMENT")
    except DocumentError as error:
        raise ManifestError(f"{path}: cannot be read as a file of ELAN: {error}") from None
    slots = _slots(document, path)
    tiers = [_tier(element, path) for element in document.iter("TIER")]
    chosen = _chosen(tiers, name, path)
    sound, origin_ms = _sound(document, file, annotations)
    if origin_ms:
        tally.shifted.append(f"{origin_ms} ms in {file}")
    cells: list[dict[str, str]] = []
    times: list[tuple[float, float]] = []
    names: list[str] = []
    for tier in chosen:
        column = name if name not in (None, _EVERY_TIER) else "label"
        said = _dependent(tiers, tier)
        for one in tier.annotations:
            if lost := set(one.slots or ()) - set(slots):
                raise ManifestError(
                    f"{path}: annotation {one.name!r}: slot {min(lost)!r} is not in its times; correct it"
                )
            at = [slots[slot] for slot in one.slots or ()]
            if not one.text.strip():
                tally.n_blank += 1
            elif None in at or len(at) != 2:
                tally.n_untimed += 1
            else:
                start_ms, end_ms = (float(t or 0) + origin_ms for t in at)
                times.append((start_ms / 1000, end_ms / 1000))
                every = {"tier": tier.name} if name == _EVERY_TIER else {}
                cells.append({str(column): one.text, **every, **said.get(one.name, {})})
                names.append(one.name)
    table = label_table(cells, path)
    rows = pd.DataFrame(times, columns=["start_s", "end_s"], dtype="float64")
    rows.insert(0, "file", sound)
    rows = rows.assign(**annotations.label_columns(table, [str(c) for c in table.columns]))
    return rows.assign(selection=pd.Series(names, dtype="str"))


def _slots(document: Element, path: Path) -> dict[str, int | None]:
    """Milliseconds by the name of the slot; None for one that has no time."""
    header = document.find("HEADER")
    unit = _UNIT if header is None else header.get("TIME_UNITS", _UNIT)
    if unit != _UNIT:
        raise ManifestError(f"{path}: expected times in {_UNIT}, got {unit!r}; save it with a newer ELAN")
    return {
        slot.get("TIME_SLOT_ID", ""): _milliseconds(slot.get("TIME_VALUE"), path)
        for slot in document.iter("TIME_SLOT")
    }


def _milliseconds(text: str | None, path: Path) -> int | None:
    if text is None:
        return None
    try:
        number = int(text)
        float(number)  # of hundreds of digits it is none
        return number
    except (ValueError, OverflowError):
        raise ManifestError(f"{path}: expected whole milliseconds, got {text[:40]!r}; correct it") from None


def _tier(element: Element, path: Path) -> _Tier:
    found = []
    for one in (inner for annotation in element.iter("ANNOTATION") for inner in annotation):
        name = one.get("ANNOTATION_ID", "")
        text = one.findtext("ANNOTATION_VALUE") or ""
        if one.tag == _ALIGNED:
            slots = (one.get("TIME_SLOT_REF1", ""), one.get("TIME_SLOT_REF2", ""))
            found.append(_Annotation(name, slots, "", text))
        elif one.tag == _REFERRING:
            found.append(_Annotation(name, None, one.get("ANNOTATION_REF", ""), text))
        else:
            raise ManifestError(f"{path}: expected an annotation, found an element {one.tag[:40]!r}")
    return _Tier(element.get("TIER_ID", ""), element.get("PARENT_REF", ""), tuple(found))


def _chosen(tiers: list[_Tier], name: str | None, path: Path) -> list[_Tier]:
    aligned = [t for t in tiers if t.is_aligned]
    if name == _EVERY_TIER and aligned:
        return aligned
    # Tiers within others subdivide what those annotate, so alone they are asked for by name only.
    fitting = [t for t in aligned if (t.name == name if name is not None else not t.parent)]
    if len(fitting) == 1:
        return fitting
    found = ", ".join(repr(t.name) for t in aligned) or "none"
    if name is not None and any(t.name == name for t in tiers):
        raise ManifestError(
            f"{path}: tier {name!r} has no annotations with times of their own; those that have: {found}"
        )
    asked = repr(name) if name is not None else "one tier with times"
    raise ManifestError(
        f"{path}: expected {asked}, found {found}; name one with --tier, or take all with --tier '*'"
    )


def _dependent(tiers: Iterable[_Tier], parent: _Tier) -> dict[str, dict[str, str]]:
    """What dependent tiers say of a tier's annotations, by annotation and tier; several texts in a row."""
    said: dict[str, dict[str, list[str]]] = {}
    for tier in tiers:
        if tier.parent != parent.name or tier.is_aligned:
            continue
        for one in tier.annotations:
            said.setdefault(one.refers_to, {}).setdefault(tier.name, []).append(one.text)
    return {name: {tier: " ".join(texts) for tier, texts in of.items()} for name, of in said.items()}


def _sound(document: Element, file: str, annotations: Annotations) -> tuple[str, int]:
    """The audio, and how many milliseconds of it come before time 0 of the annotations."""
    path = annotations.folder / file
    media = list(document.iter("MEDIA_DESCRIPTOR"))
    sounds = [m for m in media if _is_sound(m)]
    if len(sounds) > 1:  # two microphones, or a copy: the one that is called as the annotations are
        sounds = [
            m for m in sounds if any(PurePosixPath(n).stem == PurePosixPath(file).stem for n in _names(m))
        ]
        if len(sounds) != 1:
            names = ", ".join(_names(m)[-1] for m in media if _is_sound(m))
            raise ManifestError(
                f"{path}: names several recordings, and it is open which is meant: {names}; unlink others"
            )
    if sounds:
        origin_ms = _milliseconds(sounds[0].get("TIME_ORIGIN"), path) or 0
        return annotations.of_first(_names(sounds[0]), file), origin_ms
    if any(_milliseconds(m.get("TIME_ORIGIN"), path) for m in media):
        raise ManifestError(
            f"{path}: its video has an offset, and no audio is linked; link the audio in ELAN"
        )
    return annotations.of_annotation(file), 0


def _is_sound(media: Element) -> bool:
    names = _names(media)
    suffixes = tuple(ALL_SUFFIXES - {".mp4", ".webm"})  # of video in ELAN
    return bool(names) and (
        media.get("MIME_TYPE", "").startswith("audio/") or names[0].lower().endswith(suffixes)
    )


def _names(media: Element) -> list[str]:
    """Where a recording is, as the file says it: from itself first, then on the machine it was made on."""
    names = []
    for url in (media.get("RELATIVE_MEDIA_URL", ""), media.get("MEDIA_URL", "")):
        path = url.removeprefix("file:")
        if path.startswith("//"):  # a host, which is empty for this machine
            path = "/" + path[2:].partition("/")[2]
        names += [path, unquote(path)] if path else []  # ELAN writes blanks with and without a sign for them
    return list(dict.fromkeys(names))


ELAN = annotation_format(
    "elan",
    "ELAN annotation files",
    read,
    options={
        "audio": AUDIO_OPTION,
        "tier": "which tier with times; '*': all, with a column tier (default: the only one within no other)",
    },
)
