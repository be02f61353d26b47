"""Annotation formats that crowsetta reads for us: TIMIT, notmat, BirdsongRecognition, yarden.

Times are never rounded. Formats that count samples are turned into seconds at the rate of the audio
file itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.audio.blocks import SoundError, read_header
from featurestore.corpora.annotations import AUDIO_OPTION, Annotations, annotation_format
from featurestore.corpora.interface import Draft
from featurestore.errors import DependencyMissing, ManifestError
from featurestore.untrusted.documents import DocumentError, require_regular
from featurestore.untrusted.xml_documents import require_no_doctype

# One segment: audio name as the annotation gives it ("" if it gives none), start, end, label.
Segment = tuple[str, float, float, str]


def _read(
    annotations: Annotations,
    format_name: str,
    *,
    name_of: Callable[[str], str] = lambda _: "",
    in_samples: bool = False,
    label: str = "label",
) -> Draft:
    """Rows of all annotations; `name_of` makes the audio's name of the path that crowsetta has for it."""
    reader = _crowsetta().formats.by_name(format_name)
    cells: list[tuple[str, float, float, str]] = []
    for file in annotations.files:
        path = annotations.folder / file
        try:
            require_regular(path)
            if path.suffix.lower() == ".xml":
                require_no_doctype(path)
            segments = _segments(reader.from_file(path), name_of, in_samples)
        except DocumentError as error:
            raise ManifestError(f"{path}: {error}; expected a file of {format_name}") from None
        except Exception as error:  # crowsetta lets any parser's error through
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(
                f"{path}: crowsetta cannot read this as {format_name} ({type(error).__name__}: {reason})"
            ) from error
        named = {s[0] for s in segments}
        found = {n: annotations.of_name(n, file) if n else annotations.of_annotation(file) for n in named}
        rate = {n: _rate_hz(Path(annotations.path(f))) if in_samples else 1.0 for n, f in found.items()}
        texts = _whole([text for _, _, _, text in segments])
        cells += [
            (found[n], on / rate[n], off / rate[n], text)
            for (n, on, off, _), text in zip(segments, texts, strict=True)
        ]
    return annotations.draft(pd.DataFrame(cells, columns=["file", "start_s", "end_s", label]))


def _whole(labels: list[str]) -> list[str]:
    """Labels of numbers as they are meant: MATLAB keeps 1 as 1.0."""
    if all(re.fullmatch(r"-?\d+\.0", text) for text in labels):
        return [text.removesuffix(".0") for text in labels]
    return labels


def _crowsetta() -> Any:
    try:
        import crowsetta
    except ImportError as error:
        raise DependencyMissing(
            "this annotation format needs crowsetta; pip install 'featurestore-audio[annotations]'"
        ) from error
    return crowsetta


def _rate_hz(path: Path) -> float:
    # Reported later by name, as is one that no system takes; until then its rows need some times.
    if not os.path.isfile(path):
        return 1.0
    try:
        return float(read_header(str(path)).sample_rate_hz)
    except SoundError as error:
        raise ManifestError(f"{path}: {error}, so its sample rate is not known; replace the file") from None


def _segments(loaded: Any, name_of: Callable[[str], str], in_samples: bool) -> list[Segment]:
    # At a rate of 1 crowsetta's "seconds" are the samples of the file.
    found = loaded.to_annot(round_times=False, **({"samplerate": 1} if in_samples else {}))
    return [
        (name_of(str(one.notated_path)), float(on), float(off), str(text))
        for one in (found if isinstance(found, list) else [found])
        for on, off, text in zip(one.seq.onsets_s, one.seq.offsets_s, one.seq.labels, strict=True)
    ]


def read_timit(source: Path, *, audio: str | Path | None = None, words: bool = False) -> Draft:
    """Read TIMIT transcriptions: phones (``.phn``), or words (``.wrd``)."""
    annotations = Annotations(source, audio, (".wrd",) if words else (".phn",))
    return _read(annotations, "timit", in_samples=True, label="word" if words else "phone")


def read_notmat(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read the ``.not.mat`` files of evsonganaly."""
    return _read(Annotations(source, audio, (".not.mat",)), "notmat")


def read_birdsong_recognition(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read the ``Annotation.xml`` of BirdsongRecognition (Koumura); audio in ``Wave/`` beside it."""
    folder = "" if audio is not None else "Wave/"
    return _read(
        Annotations(source, audio, (".xml",)),
        "birdsong-recognition-dataset",
        name_of=lambda path: f"{folder}{Path(path).name}",
        in_samples=True,
    )


def read_yarden(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read annotation ``.mat`` files of the SongAnnotationGUI (Cohen)."""
    return _read(Annotations(source, audio, (".mat",)), "yarden", name_of=str)


_format = partial(
    annotation_format, citation="D. Nicholson. Crowsetta. Journal of Open Source Software 8 (2023), 5338"
)
TIMIT = _format(
    "timit",
    "TIMIT transcriptions",
    read_timit,
    options={"audio": AUDIO_OPTION, "words": "words (.wrd) instead of phones (.phn)"},
)
NOTMAT = _format("notmat", "evsonganaly .not.mat", read_notmat)
BIRDSONG_RECOGNITION = _format(
    "birdsong-recognition-dataset", "BirdsongRecognition XML", read_birdsong_recognition
)
YARDEN = _format("yarden", "SongAnnotationGUI .mat", read_yarden)
