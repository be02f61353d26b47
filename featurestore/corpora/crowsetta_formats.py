"""Annotation formats that crowsetta reads for us: TIMIT, notmat, BirdsongRecognition, yarden.

Times are never rounded. Formats that count samples are turned into seconds at the rate of the audio
file itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.audio.blocks import SoundError, read_header
from featurestore.corpora.annotations import AUDIO_OPTION, AudioIndex, annotation_files, bare_name
from featurestore.corpora.interface import Corpus, Draft
from featurestore.errors import DependencyMissing, ManifestError

# One segment: audio name as the annotation gives it ("" if it gives none), start, end, label.
Segment = tuple[str, float, float, str]
Parser = Callable[[Any, Path], Iterator[Segment]]


def _read(
    source: Path,
    audio: str | Path | None,
    *,
    format_name: str,
    suffixes: Iterable[str],
    parse: Parser,
    in_samples: bool = False,
    label: str = "label",
) -> Draft:
    root, files = annotation_files(source, suffixes)
    reader = _crowsetta().formats.by_name(format_name)
    index = AudioIndex(source, audio)
    cells: list[tuple[str, float, float, str]] = []
    for file in files:
        try:
            segments = list(parse(reader, root / file))
        except ManifestError:
            raise
        except Exception as error:  # crowsetta lets any parser's error through
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(
                f"{root / file}: crowsetta cannot read this as {format_name} "
                f"({type(error).__name__}: {reason})"
            ) from error
        named = {s[0] for s in segments}
        found = {n: index.of_name(n, file) if n else index.of_annotation(file) for n in named}
        rate = {n: _rate_hz(Path(index.path(f))) if in_samples else 1.0 for n, f in found.items()}
        texts = _whole([str(text) for _, _, _, text in segments])
        cells += [
            (found[n], on / rate[n], off / rate[n], text)
            for (n, on, off, _), text in zip(segments, texts, strict=True)
        ]
    rows = pd.DataFrame(cells, columns=["file", "start_s", "end_s", label])
    return Draft(
        rows=index.rows(rows),
        groups={"recording": rows["file"].map(bare_name)},
        notes=index.notes(),
        hint=index.hint,
    )


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
    if not path.is_file():  # reported later by name; until then its rows need some times
        return 1.0
    try:
        return float(read_header(str(path)).sample_rate_hz)
    except SoundError as error:
        raise ManifestError(f"{path}: {error}, so its sample rate is not known; replace the file") from None


def _sequence(sequence: Any, name: str) -> Iterator[Segment]:
    for on, off, text in zip(sequence.onsets_s, sequence.offsets_s, sequence.labels, strict=True):
        yield name, float(on), float(off), str(text)


def read_timit(source: Path, *, audio: str | Path | None = None, words: bool = False) -> Draft:
    """Read TIMIT transcriptions: phones (``.phn``), or words (``.wrd``)."""

    def parse(reader: Any, path: Path) -> Iterator[Segment]:
        # At a rate of 1 crowsetta's "seconds" are the samples of the file.
        yield from _sequence(reader.from_file(path).to_seq(round_times=False, samplerate=1), "")

    return _read(
        source,
        audio,
        format_name="timit",
        suffixes=(".wrd",) if words else (".phn",),
        parse=parse,
        in_samples=True,
        label="word" if words else "phone",
    )


def read_notmat(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read the ``.not.mat`` files of evsonganaly."""

    def parse(reader: Any, path: Path) -> Iterator[Segment]:
        yield from _sequence(reader.from_file(path).to_seq(round_times=False), "")

    return _read(source, audio, format_name="notmat", suffixes=(".not.mat",), parse=parse)


def read_birdsong_recognition(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read the ``Annotation.xml`` of BirdsongRecognition (Koumura); audio in ``Wave/`` beside it."""
    folder = "" if audio is not None else "Wave/"

    def parse(reader: Any, path: Path) -> Iterator[Segment]:
        loaded = reader.from_file(path)
        for annotation in loaded.to_annot(round_times=False, samplerate=1):
            yield from _sequence(annotation.seq, f"{folder}{Path(annotation.notated_path).name}")

    return _read(
        source,
        audio,
        format_name="birdsong-recognition-dataset",
        suffixes=(".xml",),
        parse=parse,
        in_samples=True,
    )


def read_yarden(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read annotation ``.mat`` files of the SongAnnotationGUI (Cohen)."""

    def parse(reader: Any, path: Path) -> Iterator[Segment]:
        for annotation in reader.from_file(path).to_annot(round_times=False):
            yield from _sequence(annotation.seq, str(annotation.notated_path))

    return _read(source, audio, format_name="yarden", suffixes=(".mat",), parse=parse)


def _format(name: str, title: str, reader: Callable[..., Draft], **options: str) -> Corpus:
    return Corpus(
        name=name,
        title=title,
        licence="yours",
        citation="D. Nicholson. Crowsetta. Journal of Open Source Software 8 (2023), 5338",
        where="your own annotations",
        groups={"recording": "one audio file"},
        options={"audio": AUDIO_OPTION, **options},
        reader=reader,
        takes_file=True,
    )


TIMIT = _format(
    "timit",
    "TIMIT transcriptions",
    read_timit,
    words="words (.wrd) instead of phones (.phn)",
)
NOTMAT = _format("notmat", "evsonganaly .not.mat", read_notmat)
BIRDSONG_RECOGNITION = _format(
    "birdsong-recognition-dataset", "BirdsongRecognition XML", read_birdsong_recognition
)
YARDEN = _format("yarden", "SongAnnotationGUI .mat", read_yarden)
