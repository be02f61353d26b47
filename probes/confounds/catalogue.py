"""Which confounds there are, and their values for the rows of a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.confounds.recorded_at import recorded_at
from featurestore.confounds.sounds import Sound

Kind = Literal["number", "frequency", "hour", "category"]
OTHER_AUDIO = "other audio than was embedded"
ALL = "all together"


@dataclass(frozen=True)
class Confound:
    """One confound.

    Attributes:
        name: In tables.
        kind: A ``number``; a ``frequency`` or length, which a layer is asked for on a scale of octaves; an
            ``hour`` of a day, which begins where it ends; a ``category``.
        field: Of `Sound`; "" where it comes from the manifest or the file's name.
    """

    name: str
    kind: Kind
    field: str = ""


CONFOUNDS = (
    Confound("duration", "frequency", "duration_s"),
    Confound("level", "number", "level_dbfs"),
    Confound("peak_level", "number", "peak_dbfs"),
    Confound("snr", "number", "snr_db"),
    Confound("peak_frequency", "frequency", "peak_hz"),
    Confound("centroid", "frequency", "centroid_hz"),
    Confound("f0", "frequency", "f0_hz"),
    Confound("recorder", "category", "recorder"),
    Confound("date", "number"),
    Confound("hour", "hour"),
    Confound("group", "category"),
)


def confound_table(index: pd.DataFrame, sounds: Sequence[Sound]) -> pd.DataFrame:
    """Values of all confounds, and ``problem``: why a row cannot be used, or "".

    Args:
        index: Rows of a key, see `featurestore.store.reader.Features.index`.
        sounds: What was measured of each.

    Returns:
        With the index of `index`; numbers float64, NaN where there is none (``date`` in days since
        1970-01-01); categories text, "" where there is none.
    """
    start_s = index["start_s"].fillna(0.0)
    when = [recorded_at(str(p), float(s)) for p, s in zip(index["path"], start_s, strict=True)]
    days = [np.nan if w.day is None else float(np.datetime64(w.day).astype(np.int64)) for w in when]
    given = {
        "date": np.array(days, dtype=float),
        "hour": np.array([w.hour for w in when], dtype=float),
        "group": index["group"].to_numpy(dtype=object),
    }
    measured = {c.name: [getattr(s, c.field) for s in sounds] for c in CONFOUNDS if c.field}
    table = pd.DataFrame({**measured, **given}, index=index.index)
    embedded = zip(index["audio_hash"], sounds, strict=True)
    table["problem"] = [
        s.problem or (OTHER_AUDIO if was and was != s.audio_hash else "") for was, s in embedded
    ]
    return table[[*(c.name for c in CONFOUNDS), "problem"]]


def known(confound: Confound, values: pd.Series) -> npt.NDArray[np.bool_]:
    """Rows that have a value `[n]`."""
    return np.asarray(values != "" if confound.kind == "category" else values.notna(), dtype=bool)


def varies(confound: Confound, values: pd.Series) -> bool:
    """Whether a classifier could tell rows apart by it; having a value or not, as F0 does, counts too."""
    return len(pd.unique(values.where(known(confound, values)))) > 1


def as_targets(confound: Confound, values: pd.Series) -> npt.NDArray[np.float64]:
    """A number as a regression is asked for it `[n, 1]`: frequencies and lengths in octaves (log2).

    An hour is a point on a circle `[n, 2]`: 23:59 lies beside 0:01.
    """
    x = values.to_numpy(dtype=float)
    if confound.kind == "hour":
        angle = 2 * np.pi * x / 24
        return np.stack([np.sin(angle), np.cos(angle)], axis=1)
    if confound.kind == "frequency":
        x = np.log2(np.where(x > 0, x, np.nan))
    return x[:, None]
