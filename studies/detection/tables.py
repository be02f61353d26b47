"""Events as the tables of other programs: Raven, Audacity, BirdNET-Analyzer."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from featurestore.corpora.raven import BEGIN, END, FILE, OFFSET, PATH, is_label
from studies.detection.events import Event

PROBABILITY = "Probability"


@dataclass(frozen=True, kw_only=True)
class Detected:
    """What a table of one recording is made of.

    Attributes:
        path: of the recording, absolute.
        rate_hz: of the file; half of it is the upper end of every selection.
        label: name of the label column.
        events: in the order of their times.
    """

    path: str
    rate_hz: int
    label: str
    events: Sequence[Event]


def raven_table(found: Detected) -> str:
    """A selection table of Raven; the mean of all channels stands as channel 1, which has to be a number.

    Raven counts channels from 1. `Begin Path` is absolute, so that the table opens from any folder.
    """
    label = found.label if is_label(found.label) and found.label != PROBABILITY else "Class"
    high_hz = _text(found.rate_hz / 2)
    head = ("Selection", "View", "Channel", BEGIN, END, "Low Freq (Hz)", "High Freq (Hz)", PATH, FILE, OFFSET)
    rows = [
        (
            *(str(i), "Spectrogram 1", str(1 + (e.channel or 0))),
            *(_text(e.start_s), _text(e.end_s), "0", high_hz),
            *(found.path, PurePosixPath(found.path).name, _text(e.start_s)),
            *(e.label, _text(e.probability)),
        )
        for i, e in enumerate(found.events, start=1)
    ]
    return "".join("\t".join(row) + "\n" for row in [(*head, label, PROBABILITY), *rows])


def audacity_labels(found: Detected) -> str:
    """A label track of Audacity; the probability is a field behind the label, which Audacity passes over."""
    return "".join(
        f"{_text(e.start_s)}\t{_text(e.end_s)}\t{e.label}\t{_text(e.probability)}\n" for e in found.events
    )


def birdnet_csv(found: Detected) -> str:
    """Results as BirdNET-Analyzer writes them in CSV; the class stands for both names of a species."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"))
    for e in found.events:
        confidence = f"{e.probability:.4f}"
        writer.writerow((_text(e.start_s), _text(e.end_s), e.label, e.label, confidence, found.path))
    return out.getvalue()


#: Format (and folder below the results) → ending of the file's name, and what makes its text.
TABLES: Mapping[str, tuple[str, Callable[[Detected], str]]] = {
    "raven": (".Table.1.selections.txt", raven_table),
    "audacity": (".txt", audacity_labels),
    "birdnet": (".BirdNET.results.csv", birdnet_csv),
}


def _text(number: float) -> str:
    """Shortest exact decimal, never with an exponent."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
