"""What is truly in recordings: annotations of any format, or a manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError, did_you_mean
from featurestore.manifest.table import learnable_columns, read_manifest
from studies.detection.recordings import Recording

MANIFEST = "manifest"


@dataclass(frozen=True, kw_only=True)
class TruthRequest:
    """Where the truth is, and when a detection agrees with it.

    Attributes:
        table: file or folder.
        format: ``manifest``, or an annotation format of `fs manifest`.
        audio: folder of the audio, where it is not beside the annotations.
        label: column; None: the probe's, or the only one.
        iou: share of the time that two events cover together which both cover, for them to be one.
        collar_s: instead: largest distance of their starts in seconds.
        segment_s: seconds of a segment; None: those of a window.
    """

    table: Path
    format: str = MANIFEST
    audio: Path | None = None
    label: str | None = None
    iou: float = 0.5
    collar_s: float | None = None
    segment_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ConfigError(f"--iou: expected a share above 0 and up to 1, got {self.iou:g}")
        for name, seconds in (("collar", self.collar_s), ("segment", self.segment_s)):
            if seconds is not None and not 0 < seconds < float("inf"):
                raise ConfigError(f"--{name}: expected more than 0 seconds, got {seconds:g}")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Annotated events of the recordings that are looked through.

    Attributes:
        events: ``path, start_s, end_s, channel, label``; `path` as the recordings have it.
        unnamed: recordings of which the truth says nothing.
    """

    events: pd.DataFrame
    unnamed: Sequence[str]


def read_truth(
    request: TruthRequest, recordings: Sequence[Recording], label: str, background: str | None
) -> Truth:
    """The truth about some recordings.

    Args:
        request: where it is.
        recordings: which.
        label: of the probe.
        background: class that stands for no event.

    Raises:
        ConfigError: no such format or label; it is about other recordings, or has no times.
        ManifestError: it cannot be read.
    """
    table = _table(request)
    column = _label(table, request, label)
    there = {os.path.realpath(r.path): r.path for r in recordings}
    path = table["path"].map(lambda p: there.get(os.path.realpath(p)))
    if path.isna().all():
        raise ConfigError(
            f"--truth {request.table}: is about none of the recordings: it names "
            f"{table['path'].iloc[0]!r}, these are {recordings[0].path!r} and so on"
        )
    table = table.assign(path=path)[path.notna()]
    whole = table["end_s"].isna()
    if whole.any():
        raise ManifestError(
            f"--truth {request.table}: utterance {table.loc[whole, 'utterance_id'].iloc[0]!r} has no end; "
            "expected annotations with times"
        )
    events = pd.DataFrame(
        {
            "path": table["path"].astype("str"),
            "start_s": table["start_s"].fillna(0.0).astype(np.float64),
            "end_s": table["end_s"].astype(np.float64),
            "channel": table["channel"],
            "label": table[column].astype("str"),
        }
    )
    named = set(events["path"])
    events = events[~events["label"].isin(["", background or ""])].reset_index(drop=True)
    return Truth(events=events, unnamed=[r.path for r in recordings if r.path not in named])


def _table(request: TruthRequest) -> pd.DataFrame:
    if request.format == MANIFEST:
        if request.audio is not None:
            raise ConfigError("--truth-audio is for annotations; a manifest names its audio")
        if request.table.exists() and request.table.suffix.lower() not in (".csv", ".parquet"):
            raise ConfigError(
                f"--truth {request.table}: expected a manifest (.csv or .parquet); say with --truth-format "
                "what else it is, such as raven"
            )
        return read_manifest(request.table, check_files=False).table
    corpus = get_corpus(request.format)
    options: dict[str, Any] = {} if request.audio is None else {"audio": request.audio}
    return corpus.read(request.table, allow_missing=True, **options).table


def _label(table: pd.DataFrame, request: TruthRequest, label: str) -> str:
    labels = learnable_columns(table.columns)
    if request.label is None:
        if label in labels or len(labels) == 1:
            return label if label in labels else labels[0]
        raise ConfigError(
            f"--truth {request.table}: no column {label!r}, the probe's label; say which with --truth-label: "
            f"{', '.join(labels) or 'there is none'}"
        )
    if request.label not in labels:
        raise ConfigError(
            f"--truth-label {request.label}: the labels are {', '.join(labels) or 'none'}"
            f"{did_you_mean(request.label, labels)}"
        )
    return request.label
