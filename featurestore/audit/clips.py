"""From measurements of clips and files to findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.audio.blocks import APART, FULL_SCALE
from featurestore.audio.segment import END_TOLERANCE_S
from featurestore.audit.findings import MAX_EXAMPLES, Example, Finding, Severity
from featurestore.printable import counted

BoolArray = npt.NDArray[np.bool_]

# 16-bit noise from dithering lies near -98 dBFS; a peak under -60 is a microphone that was off, or gain
# lost on the way.
SILENT_PEAK = 10 ** (-60 / 20)
# Three samples in a row at the very same extreme happen in quiet or 8-bit sound; not often and loud.
CLIPPED_PEAK, CLIPPED_PEAK_8_BIT, CLIPPED_RUNS = 0.1, 0.99, 5
EIGHT_BIT = ("PCM_U8", "PCM_S8", "ULAW", "ALAW")
# A mean beyond a tenth of the signal's own size and a thousandth of full scale.
DC_OF_RMS, DC_OF_FULL_SCALE = 0.1, 0.001
# Receptive field and hop of the wav2vec family at 16 kHz: under 400 samples there is no frame, under
# 720 only one and no standard deviation.
NO_FRAME_S, ONE_FRAME_S = 0.025, 0.045
LOST_OF_CLIP, LOST_OF_RATE = 0.5, 0.1
OUTLIER = 8.0  # robust standard deviations of log duration and of level
MIN_ROWS_FOR_OUTLIERS = 30


def clip_findings(table: pd.DataFrame, *, expands: bool = False) -> list[Finding]:
    """Findings about single clips.

    Args:
        table: The manifest's contract columns, those of `Measured` except sketch and portrait, and of the
            clip's file ``rate_hz, subtype, file_frames, file_problem``; ``model_s``: seconds a model hears.
        expands: Whether samples are read as if they were at the model's rate: nothing above it is lost.
    """
    heard = table["model_s"].to_numpy(dtype=float)
    cancels = table["cancels"].fillna(0).to_numpy(dtype=bool)
    agreement = table["agreement"].to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        duration = (table["n_samples"] / table["rate_hz"]).to_numpy(dtype=float)
        level = 20 * np.log10(table["rms"].to_numpy(dtype=float))
    peak, rms, dc = (table[c].to_numpy(dtype=float) for c in ("peak", "rms", "dc"))
    read = (table["error"] == "").to_numpy() & (table["n_samples"] > 0).to_numpy()
    maker = _Maker(table)
    silent = read & (peak == 0)
    found = [
        *_file_findings(table),
        *maker.make(
            "unreadable",
            "fault",
            (table["error"] != "").to_numpy() & (table["file_problem"] == "").to_numpy(),
            "{n}: cannot be read",
            lambda i: str(table["error"].iloc[i]),
        ),
        *_against_file(table, maker),
        *maker.make(
            "silent", "fault", silent & ~cancels, "{n}: nothing but zeros, which fails", lambda i: "all zeros"
        ),
        *maker.make(
            "channels-cancel-out",
            "fault",
            silent & cancels,
            "{n}: channels that cancel out: their mean is nothing but zeros, which fails; "
            "`fs extract --channel 0` takes the first",
            lambda i: "the mean of its channels is zero",
        ),
        *maker.make(
            "channels-differ",
            "warning",
            read & ~silent & (agreement < APART),
            f"{{n}}: the mean of channels that differ (correlation below {APART:g}), another sound than any "
            "of them; `fs extract --channel 0` takes the first, `--channel each` all",
            lambda i: f"correlation {agreement[i]:.2f}",
            order=agreement,
        ),
        *maker.make(
            "beyond-full-scale",
            "warning",
            read & (peak > FULL_SCALE),
            "{n}: far beyond full scale, integers that were saved as fractions; divide them (by 32,768 for "
            "16 bits)",
            lambda i: f"peak {peak[i]:,.6g}, full scale is 1",
            order=-peak,
        ),
        *maker.make(
            "constant",
            "fault",
            read & ~silent & (rms < 1e-7 * np.maximum(peak, 1e-12)),
            "{n}: one constant value",
            lambda i: f"constant {dc[i]:g}",
        ),
        *maker.make(
            "nearly-silent",
            "warning",
            read & ~silent & (peak < SILENT_PEAK),
            "{n}: never above -60 dB of full scale",
            lambda i: f"peak {20 * np.log10(peak[i]):.0f} dBFS",
            order=peak,
        ),
        *maker.make(
            "clipped",
            "warning",
            read & _clipped(table),
            "{n}: clipped, the loudest samples stand in flat runs",
            lambda i: f"{table['n_flat_runs'].iloc[i]} flat runs at {20 * np.log10(peak[i]):.1f} dBFS",
            order=-table["n_flat_runs"].to_numpy(dtype=float),
        ),
        *maker.make(
            "no-frame",
            "warning",
            read & (heard < NO_FRAME_S),
            "{n}: shorter than 25 ms, the receptive field of the wav2vec family: `fs extract` repeats them, "
            "with --short-clips none they fail",
            lambda i: f"{1000 * heard[i]:.1f} ms",
            order=heard,
        ),
        *maker.make(
            "too-short",
            "warning",
            read & (heard >= NO_FRAME_S) & (heard < ONE_FRAME_S),
            "{n}: shorter than 45 ms, so one frame without repetition and no standard deviation",
            lambda i: f"{1000 * heard[i]:.1f} ms",
            order=heard,
        ),
        *maker.make(
            "dc-offset",
            "warning",
            read & ~silent & (np.abs(dc) > DC_OF_FULL_SCALE) & (np.abs(dc) > DC_OF_RMS * rms) & (rms > 1e-9),
            "{n}: a DC offset of more than a tenth of the RMS",
            lambda i: f"mean {dc[i]:+.4f}, RMS {rms[i]:.4f}",
            order=-np.abs(dc) / np.maximum(rms, 1e-12),
        ),
        *maker.make(
            "above-nyquist",
            "warning",
            read & (table["above"].fillna(0).to_numpy() > LOST_OF_CLIP) & (not expands),
            "{n}: more than half of the energy is lost when resampled to the model's rate",
            lambda i: f"{100 * table['above'].iloc[i]:.0f} % lost",
            order=-table["above"].fillna(0).to_numpy(),
        ),
        *_outliers(maker, "long-or-short", np.log(np.maximum(duration, 1e-9)), read, duration, "{:.2f} s"),
        *_outliers(
            maker, "loud-or-quiet", level, read & ~silent & np.isfinite(level), level, "{:.0f} dBFS RMS"
        ),
    ]
    return [f for f in found if f.count]


def rate_rows(
    table: pd.DataFrame, model_rate_hz: int, *, expands: bool = False
) -> tuple[list[Mapping[str, Any]], list[Finding]]:
    """What resampling to the model's rate costs, by source rate; findings where it is much.

    With `expands` nothing is lost, but sound at each rate becomes another.
    """
    rows: list[Mapping[str, Any]] = []
    findings = []
    for rate, of_rate in table[table["rate_hz"] > 0].groupby("rate_hz", sort=True):
        above = of_rate["above"].dropna()
        hz = int(str(rate))
        row = {
            "rate_hz": hz,
            "n_files": int(of_rate["path"].nunique()),
            "n_clips": len(of_rate),
            "median_lost": float(above.median()) if len(above) else 0.0,
            "p95_lost": float(above.quantile(0.95)) if len(above) else 0.0,
        }
        rows.append(row)
        if expands:
            continue
        if row["median_lost"] > LOST_OF_RATE:
            findings.append(
                Finding(
                    kind="rate-loses-energy",
                    severity="warning",
                    text=f"Clips at {hz:,} Hz lose {100 * row['median_lost']:.0f} % of their energy (median) "
                    f"above {model_rate_hz / 2:,.0f} Hz, which a model at {model_rate_hz:,} Hz cannot hear.",
                    count=len(of_rate),
                )
            )
        elif hz < model_rate_hz:
            clips = counted(len(of_rate), "clip")
            findings.append(
                Finding(
                    kind="rate-below-model",
                    severity="note",
                    text=f"{clips} at {hz:,} Hz, with nothing above {hz / 2:,.0f} Hz; "
                    f"the model expects sound up to {model_rate_hz / 2:,.0f} Hz.",
                    count=len(of_rate),
                )
            )
    if len(rows) > 1:
        shown = ", ".join(f"{r['rate_hz']:,} Hz ({r['n_clips']:,})" for r in rows[:MAX_EXAMPLES])
        more = f" and {len(rows) - MAX_EXAMPLES} more" if len(rows) > MAX_EXAMPLES else ""
        findings.append(
            Finding(
                kind="mixed-rates",
                severity="warning" if expands else "note",
                text=f"Clips have {len(rows)} sample rates: {shown}{more}; "
                + (
                    "time expansion gives the same sound another pitch and length at each, which can pass "
                    "for a class."
                    if expands
                    else "a rate that goes with a class can be learned in its stead."
                ),
                count=len(rows),
            )
        )
    return rows, findings


class _Maker:
    """Makes a finding of the rows of a mask, worst first."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.ids = table["utterance_id"].to_numpy(dtype=object)

    def make(
        self,
        kind: str,
        severity: Severity,
        mask: BoolArray,
        text: str,
        detail: Any,
        order: npt.NDArray[Any] | None = None,
    ) -> list[Finding]:
        where = np.flatnonzero(mask)
        if not len(where):
            return []
        if order is not None:
            where = where[np.argsort(order[where], kind="stable")]
        n = counted(len(where), "clip")
        return [
            Finding(
                kind=kind,
                severity=severity,
                text=text.format(n=n) + ".",
                count=len(where),
                examples=tuple(self.example(i, detail(i)) for i in where.tolist()),
            )
        ]

    def example(self, i: int, detail: str) -> Example:
        return Example(name=str(self.ids[i]), detail=detail, row=int(i))


def _file_findings(table: pd.DataFrame) -> list[Finding]:
    bad = table[table["file_problem"] != ""].drop_duplicates("path")
    if not len(bad):
        return []
    return [
        Finding(
            kind="damaged-file",
            severity="fault",
            text=f"{counted(len(bad), 'file')}: not to be read, or cut short.",
            count=len(bad),
            examples=tuple(
                Example(name=str(r.path), detail=str(r.file_problem), row=int(str(i)))
                for i, r in zip(bad.index, bad.itertuples(), strict=True)
            ),
        )
    ]


def _against_file(table: pd.DataFrame, maker: _Maker) -> list[Finding]:
    """The manifest's times against what the file holds."""
    known = (table["rate_hz"] > 0).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        file_s = (table["file_frames"] / table["rate_hz"]).to_numpy(dtype=float)
    start = table["start_s"].fillna(0).to_numpy(dtype=float)
    end = table["end_s"].to_numpy(dtype=float)
    beyond = known & (start >= file_s) & (file_s > 0)
    past = known & ~beyond & (end > file_s + END_TOLERANCE_S)

    def times(i: int) -> str:
        until = f"{end[i]:g} s" if np.isfinite(end[i]) else "its end"
        return f"{start[i]:g} to {until} in a file of {file_s[i]:.3f} s"

    return [
        *maker.make(
            "outside-file",
            "fault",
            beyond,
            "{n}: beyond the end of the file, which fails; the times or the file are another recording's",
            times,
        ),
        *maker.make(
            "past-end",
            "fault",
            past,
            "{n}: begun in the file and ending after it, which fails; `fs extract --clip-to-file` ends them "
            "with it, if these are last windows and the file is not another recording's",
            times,
        ),
        *maker.make(
            "empty",
            "fault",
            known
            & ~beyond
            & (table["file_problem"] == "").to_numpy()
            & (table["error"] == "").to_numpy()
            & (table["n_samples"] == 0).to_numpy(),
            "{n}: no sample",
            lambda i: "no samples",
        ),
    ]


def _clipped(table: pd.DataFrame) -> BoolArray:
    least = np.where(table["subtype"].isin(EIGHT_BIT), CLIPPED_PEAK_8_BIT, CLIPPED_PEAK)
    runs = table["n_flat_runs"].to_numpy() >= CLIPPED_RUNS
    mask: BoolArray = runs & (table["peak"].to_numpy() >= least)
    return mask


def _outliers(
    maker: _Maker,
    kind: str,
    values: npt.NDArray[np.float64],
    mask: BoolArray,
    shown: npt.NDArray[np.float64],
    form: str,
) -> list[Finding]:
    if mask.sum() < MIN_ROWS_FOR_OUTLIERS:
        return []
    z = robust_z(values, mask)
    what = "duration" if kind == "long-or-short" else "level"
    return maker.make(
        kind,
        "note",
        mask & (np.abs(z) > OUTLIER),
        f"{{n}}: far from the others in {what}",
        lambda i: form.format(shown[i]),
        order=-np.abs(z),
    )


def robust_z(values: npt.NDArray[np.float64], mask: BoolArray) -> npt.NDArray[np.float64]:
    """Distance from the median of the rows of `mask` in robust standard deviations (1.4826 MAD)."""
    centre = np.median(values[mask])
    spread = 1.4826 * np.median(np.abs(values[mask] - centre))
    return np.where(mask, (np.where(mask, values, centre) - centre) / max(spread, 1e-9), 0.0)
