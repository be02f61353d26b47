"""Findings about clips and files, from what was measured of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.arrays import BoolArray
from featurestore.audio.blocks import APART, FULL_SCALE
from featurestore.audio.segment import END_TOLERANCE_S
from featurestore.audit.findings import MAX_EXAMPLES, Example, Finding, Severity, listed
from featurestore.printable import counted

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
        table: The manifest's contract columns, those of `Measured` except sketch and portrait, those of
            `MeasuredFile` for the clip's file; ``model_s``: seconds a model hears.
        expands: Whether samples are read as if they were at the model's rate: nothing above it is lost.
    """
    clips = _Clips(table)
    return [
        *_unreadable(clips),
        *_against_file(clips),
        *([] if expands else _time_expanded(table)),
        *_channels(clips),
        *_levels(clips),
        *_lengths(clips),
        *_content(clips, expands),
        *_outliers(clips),
    ]


def _time_expanded(table: pd.DataFrame) -> list[Finding]:
    """Files that play slower than they sounded, of which a model hears another sound."""
    slow = table[table["time_expansion"].fillna("") != ""].drop_duplicates("path")
    return listed(
        "time-expanded",
        "warning",
        f"{counted(len(slow), 'file')} that their recorder says to be time-expanded: slower and lower than "
        "they sounded; write them at their true rate.",
        (
            Example(name=str(r.path), detail=f"plays {r.time_expansion} times slower", row=int(str(i)))
            for i, r in zip(slow.index, slow.itertuples(), strict=True)
        ),
    )


def rate_rows(
    table: pd.DataFrame, model_rate_hz: int, *, expands: bool = False
) -> tuple[list[Mapping[str, Any]], list[Finding]]:
    """What resampling to the model's rate costs, by source rate; findings where it is much.

    With `expands` nothing is lost, but sound at each rate becomes another.
    """
    rows: list[Mapping[str, Any]] = []
    for rate, of_rate in table[table["rate_hz"] > 0].groupby("rate_hz", sort=True):
        above = of_rate["above"].dropna()
        rows.append(
            {
                "rate_hz": int(str(rate)),
                "n_files": int(of_rate["path"].nunique()),
                "n_clips": len(of_rate),
                "median_lost": float(above.median()) if len(above) else 0.0,
                "p95_lost": float(above.quantile(0.95)) if len(above) else 0.0,
            }
        )
    findings = [] if expands else [f for row in rows for f in _rate_findings(row, model_rate_hz)]
    if len(rows) > 1:
        shown = ", ".join(f"{r['rate_hz']:,} Hz ({r['n_clips']:,})" for r in rows[:MAX_EXAMPLES])
        more = f" and {len(rows) - MAX_EXAMPLES} more" if len(rows) > MAX_EXAMPLES else ""
        follows = (
            "time expansion gives the same sound another pitch and length at each, which can pass for a "
            "class."
            if expands
            else "a rate that goes with a class can be learned in its stead."
        )
        text = f"Clips have {len(rows)} sample rates: {shown}{more}; {follows}"
        severity: Severity = "warning" if expands else "note"
        findings.append(Finding(kind="mixed-rates", severity=severity, text=text, count=len(rows)))
    return rows, findings


def _rate_findings(row: Mapping[str, Any], model_rate_hz: int) -> list[Finding]:
    """What becomes of clips at one rate when they are resampled."""
    hz, n = row["rate_hz"], row["n_clips"]
    if row["median_lost"] > LOST_OF_RATE:
        text = (
            f"Clips at {hz:,} Hz lose {100 * row['median_lost']:.0f} % of their energy (median) "
            f"above {model_rate_hz / 2:,.0f} Hz, which a model at {model_rate_hz:,} Hz cannot hear."
        )
        return [Finding(kind="rate-loses-energy", severity="warning", text=text, count=n)]
    if hz < model_rate_hz:
        text = (
            f"{counted(n, 'clip')} at {hz:,} Hz, with nothing above {hz / 2:,.0f} Hz; "
            f"the model expects sound up to {model_rate_hz / 2:,.0f} Hz."
        )
        return [Finding(kind="rate-below-model", severity="note", text=text, count=n)]
    return []


class _Clips:
    """Measurements of clips, each `[n]`, and what is found in the rows of a mask."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.ids = table["utterance_id"].to_numpy(dtype=object)
        self.peak, self.rms, self.dc, self.agreement, self.n_samples, self.n_flat_runs = (
            table[c].to_numpy(dtype=float)
            for c in ("peak", "rms", "dc", "agreement", "n_samples", "n_flat_runs")
        )
        self.has_error = (table["error"] != "").to_numpy()
        self.file_is_sound = (table["file_problem"] == "").to_numpy()
        self.is_read = ~self.has_error & (self.n_samples > 0)
        self.is_silent = self.is_read & (self.peak == 0)
        self.is_heard = self.is_read & ~self.is_silent

    def findings(
        self,
        kind: str,
        severity: Severity,
        mask: BoolArray,
        text: str,
        detail: Callable[[int], str],
        order: npt.NDArray[Any] | None = None,
    ) -> list[Finding]:
        """A finding about the rows of a mask, by ascending `order`; none where there are none."""
        where = np.flatnonzero(mask)
        if order is not None:
            where = where[np.argsort(order[where], kind="stable")]
        sentence = text.format(n=counted(len(where), "clip")) + "."
        examples = (Example(name=str(self.ids[i]), detail=detail(i), row=i) for i in where.tolist())
        return listed(kind, severity, sentence, examples)


def _unreadable(clips: _Clips) -> list[Finding]:
    bad = clips.table[~clips.file_is_sound].drop_duplicates("path")
    examples = (
        Example(name=str(r.path), detail=str(r.file_problem), row=int(str(i)))
        for i, r in zip(bad.index, bad.itertuples(), strict=True)
    )
    return [
        *listed(
            "damaged-file", "fault", f"{counted(len(bad), 'file')}: not to be read, or cut short.", examples
        ),
        *clips.findings(
            "unreadable",
            "fault",
            clips.has_error & clips.file_is_sound,
            "{n}: cannot be read",
            lambda i: str(clips.table["error"].iloc[i]),
        ),
    ]


def _against_file(clips: _Clips) -> list[Finding]:
    """The manifest's times against what the file holds."""
    table = clips.table
    known = (table["rate_hz"] > 0).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        file_s = (table["file_frames"] / table["rate_hz"]).to_numpy(dtype=float)
    start = table["start_s"].fillna(0).to_numpy(dtype=float)
    end = table["end_s"].to_numpy(dtype=float)
    backwards = end <= start
    beyond = known & ~backwards & (start >= file_s) & (file_s > 0)
    past = known & ~backwards & ~beyond & (end > file_s + END_TOLERANCE_S)
    empty = known & ~backwards & ~beyond & clips.file_is_sound & ~clips.has_error & (clips.n_samples == 0)

    def times(i: int) -> str:
        until = f"{end[i]:g} s" if np.isfinite(end[i]) else "its end"
        return f"{start[i]:g} to {until} in a file of {file_s[i]:.3f} s"

    return [
        *clips.findings(
            "outside-file",
            "fault",
            beyond,
            "{n}: beyond the end of the file, which fails; the times or the file are another recording's",
            times,
        ),
        *clips.findings(
            "past-end",
            "fault",
            past,
            "{n}: begun in the file and ending after it, which fails; `fs extract --clip-to-file` ends them "
            "with it, if these are last windows and the file is not another recording's",
            times,
        ),
        *clips.findings("empty", "fault", empty, "{n}: no sample", lambda i: "no samples"),
        *clips.findings(
            "end-before-start",
            "fault",
            backwards,
            "{n}: no sample between start and end: `fs extract` refuses such rows (with --segments librosa "
            "it keeps them, as failed)",
            lambda i: f"{start[i]:g} to {end[i]:g} s",
        ),
    ]


def _channels(clips: _Clips) -> list[Finding]:
    """What is nothing but zeros, by itself or as a mean, and other means of what differs."""
    cancels = clips.table["cancels"].to_numpy(dtype=bool)
    return [
        *clips.findings(
            "silent",
            "fault",
            clips.is_silent & ~cancels,
            "{n}: nothing but zeros, which fails",
            lambda i: "all zeros",
        ),
        *clips.findings(
            "channels-cancel-out",
            "fault",
            clips.is_silent & cancels,
            "{n}: channels that cancel out: their mean is nothing but zeros, which fails; "
            "`fs extract --channel 0` takes the first",
            lambda i: "the mean of its channels is zero",
        ),
        *clips.findings(
            "channels-differ",
            "warning",
            clips.is_heard & (clips.agreement < APART),
            f"{{n}}: the mean of channels that differ (correlation below {APART:g}), another sound than any "
            "of them; `fs extract --channel 0` takes the first, `--channel each` all",
            lambda i: f"correlation {clips.agreement[i]:.2f}",
            order=clips.agreement,
        ),
    ]


def _levels(clips: _Clips) -> list[Finding]:
    peak, n_runs = clips.peak, clips.n_flat_runs
    loud = np.where(clips.table["subtype"].isin(EIGHT_BIT), CLIPPED_PEAK_8_BIT, CLIPPED_PEAK)
    return [
        *clips.findings(
            "beyond-full-scale",
            "warning",
            clips.is_read & (peak > FULL_SCALE),
            "{n}: far beyond full scale, integers that were saved as fractions; divide them (by 32,768 for "
            "16 bits)",
            lambda i: f"peak {peak[i]:,.6g}, full scale is 1",
            order=-peak,
        ),
        *clips.findings(
            "constant",
            "fault",
            clips.is_heard & (clips.rms < 1e-7 * np.maximum(peak, 1e-12)),
            "{n}: one constant value",
            lambda i: f"constant {clips.dc[i]:g}",
        ),
        *clips.findings(
            "nearly-silent",
            "warning",
            clips.is_heard & (peak < SILENT_PEAK),
            "{n}: never above -60 dB of full scale",
            lambda i: f"peak {20 * np.log10(peak[i]):.0f} dBFS",
            order=peak,
        ),
        *clips.findings(
            "clipped",
            "warning",
            clips.is_read & (n_runs >= CLIPPED_RUNS) & (peak >= loud),
            "{n}: clipped, the loudest samples stand in flat runs",
            lambda i: f"{n_runs[i]:.0f} flat runs at {20 * np.log10(peak[i]):.1f} dBFS",
            order=-n_runs,
        ),
    ]


def _lengths(clips: _Clips) -> list[Finding]:
    heard_s = clips.table["model_s"].to_numpy(dtype=float)

    def length(i: int) -> str:
        return f"{1000 * heard_s[i]:.1f} ms"

    return [
        *clips.findings(
            "no-frame",
            "warning",
            clips.is_read & (heard_s < NO_FRAME_S),
            "{n}: shorter than 25 ms, the receptive field of the wav2vec family: `fs extract` repeats them, "
            "with --short-clips none they fail",
            length,
            order=heard_s,
        ),
        *clips.findings(
            "too-short",
            "warning",
            clips.is_read & (heard_s >= NO_FRAME_S) & (heard_s < ONE_FRAME_S),
            "{n}: shorter than 45 ms, so one frame without repetition and no standard deviation",
            length,
            order=heard_s,
        ),
    ]


def _content(clips: _Clips, expands: bool) -> list[Finding]:
    """Energy where there should be little: at 0 Hz, and above what the model hears."""
    dc, rms = np.abs(clips.dc), clips.rms
    above = clips.table["above"].fillna(0).to_numpy(dtype=float)
    return [
        *clips.findings(
            "dc-offset",
            "warning",
            clips.is_heard & (dc > DC_OF_FULL_SCALE) & (dc > DC_OF_RMS * rms) & (rms > 1e-9),
            "{n}: a DC offset of more than a tenth of the RMS",
            lambda i: f"mean {clips.dc[i]:+.4f}, RMS {rms[i]:.4f}",
            order=-dc / np.maximum(rms, 1e-12),
        ),
        *clips.findings(
            "above-nyquist",
            "warning",
            clips.is_read & (above > LOST_OF_CLIP) & (not expands),
            "{n}: more than half of the energy is lost when resampled to the model's rate",
            lambda i: f"{100 * above[i]:.0f} % lost",
            order=-above,
        ),
    ]


def _outliers(clips: _Clips) -> list[Finding]:
    """Clips of a length or a level that others do not have."""
    with np.errstate(divide="ignore", invalid="ignore"):
        duration = clips.n_samples / clips.table["rate_hz"].to_numpy(dtype=float)
        level = 20 * np.log10(clips.rms)
    sounding = clips.is_heard & np.isfinite(level)
    found = []
    if clips.is_read.sum() >= MIN_ROWS_FOR_OUTLIERS:
        z = np.abs(robust_z(np.log(np.maximum(duration, 1e-9)), clips.is_read))
        text = "{n}: far from the others in duration"
        found += clips.findings(
            "long-or-short", "note", z > OUTLIER, text, lambda i: f"{duration[i]:.2f} s", order=-z
        )
    if sounding.sum() >= MIN_ROWS_FOR_OUTLIERS:
        z = np.abs(robust_z(level, sounding))
        text = "{n}: far from the others in level"
        found += clips.findings(
            "loud-or-quiet", "note", z > OUTLIER, text, lambda i: f"{level[i]:.0f} dBFS RMS", order=-z
        )
    return found


def robust_z(values: npt.NDArray[np.float64], mask: BoolArray) -> npt.NDArray[np.float64]:
    """Distance from the median of the rows of `mask` in robust standard deviations (1.4826 MAD)."""
    centre = np.median(values[mask])
    spread = 1.4826 * np.median(np.abs(values[mask] - centre))
    return np.where(mask, (np.where(mask, values, centre) - centre) / max(spread, 1e-9), 0.0)
