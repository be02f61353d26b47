"""What `fs detect` was asked for, and what it decides with the probe: windows, thresholds, classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from extractors.audio.headers import check_channel
from extractors.audio.recording_windows import WindowGrid
from featurestore.errors import ConfigError, did_you_mean
from featurestore.fingerprint import digest
from probes.saved.calibration import Threshold, calibrated, threshold_for
from probes.saved.probe_files import ProbeCard, SavedProbe
from studies.detection.event_thresholds import EventsRequest, EventThreshold, thresholds_by_events
from studies.detection.events import EventRule
from studies.detection.truth import TruthRequest

BACKGROUND = "background"
DEFAULT_THRESHOLD = 0.5
FORMATS = ("raven", "audacity", "birdnet")
# Grows when the same windows would make other events.
RULES_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class DetectRequest:
    """What `fs detect` was asked for.

    Attributes:
        probe: folder of `fs save-probe`.
        recordings: see `find_recordings`.
        out: folder of the results.
        window_s: seconds of a window; None: those of the median training clip.
        hop_s: seconds between the starts of windows; None: half a window.
        precision: share that shall be right of the validation rows that a class's threshold lets in, or with
            `events_of` of its events; None: `threshold`.
        events_of: choose thresholds by events of annotated recordings; None: by validation rows.
        threshold: lowest probability of an event, of all classes; None: one half.
        background: the class that makes no events; None: ``background``, where the probe has it.
        gap_s, min_event_s: see `EventRule`.
        channel: ``mix``, ``each``, or a number from 0; None: as the probe's audio was taken.
        formats: tables for each recording, of `FORMATS`.
        scores: keep the probabilities of every window too.
        overwrite: replace what another probe or other options left in `out`.
        truth: what is truly there, to be compared with; None: nothing.
        time_expanded: take recordings as they play that their recorder says to be slower than they sounded.
        model, device, workers, torch_weights, batch_seconds: as of `fs predict`.
    """

    probe: Path
    recordings: Sequence[str | os.PathLike[str]]
    out: Path
    window_s: float | None = None
    hop_s: float | None = None
    precision: float | None = None
    events_of: EventsRequest | None = None
    threshold: float | None = None
    background: str | None = None
    gap_s: float = 0.0
    min_event_s: float = 0.0
    channel: str | None = None
    formats: tuple[str, ...] = FORMATS
    scores: bool = False
    overwrite: bool = False
    truth: TruthRequest | None = None
    time_expanded: bool = False
    model: str | None = None
    device: str = "auto"
    workers: int | None = None
    torch_weights: bool = False
    batch_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.precision is not None and self.threshold is not None:
            raise ConfigError("--precision and --threshold: each decides where an event begins; give one")
        if self.events_of is not None and self.precision is None:
            raise ConfigError("--events-of: says what --precision is of; give --precision too")
        for name, value in (("precision", self.precision), ("threshold", self.threshold)):
            if value is not None and not 0 < value <= 1:
                raise ConfigError(f"--{name}: expected a share above 0 and up to 1, got {value:g}")
        for name in self.formats:
            if name not in FORMATS:
                raise ConfigError(f"--format: expected {', '.join(FORMATS)}, got {name!r}")
        if self.channel is not None:
            check_channel(self.channel)


@dataclass(frozen=True, kw_only=True)
class DetectPlan:
    """What a request means for its probe.

    Attributes:
        probe: that was read.
        grid: windows.
        rule: when windows are an event.
        background: the class that makes no events; None where there is none.
        chosen: of each class what validation rows say of its threshold; empty where none chose it.
        chosen_by_events: the same of annotated events.
        notes: lines for the user.
    """

    probe: SavedProbe
    grid: WindowGrid
    rule: EventRule
    background: str | None
    chosen: Mapping[str, Threshold] = field(default_factory=dict)
    chosen_by_events: Mapping[str, EventThreshold] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def card(self) -> ProbeCard:
        """Of the probe."""
        return self.probe.card

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Of the probe, the background among them."""
        return self.card.classes

    def decides(self, channel: str) -> dict[str, Any]:
        """All that decides what is found in a recording; where it is the same, results belong together."""
        card = self.card
        thresholds = zip(self.classes, self.rule.thresholds, strict=True)
        return {
            "probe": {
                "label": card.label,
                "model": card.model,
                "question": card.question,
                "temperature": card.calibration.get("temperature", 1.0),
                "weights": _hash_of({**self.probe.arrays, "": self.probe.mean, " ": self.probe.scale}),
            },
            "extraction": digest(card.extraction),
            "window_s": self.grid.window_s,
            "hop_s": self.grid.hop_s,
            "thresholds": {name: None if t != t else t for name, t in thresholds},
            "gap_s": self.rule.gap_s,
            "min_event_s": self.rule.min_event_s,
            "channel": channel,
            "rules_version": RULES_VERSION,
        }


def make_plan(request: DetectRequest, probe: SavedProbe) -> DetectPlan:
    """Decide windows, background and thresholds.

    Raises:
        ConfigError: the probe predicts numbers, gives no probabilities, does not say how long its clips were,
            has no such class, or has no validation rows to choose thresholds by.
    """
    card = probe.card
    if card.is_numbers:
        raise ConfigError(
            f"{request.probe}: predicts a number ({card.label}), and events are of classes; detect with a "
            "probe of classes, and measure clips with fs predict and this one"
        )
    if card.reads_frames:
        raise ConfigError(
            f"{request.probe}: {card.classifier} reads the frames of clips, and windows are embedded as one "
            "vector each; detect with a probe of mlp, linear, logreg, lda or knn"
        )
    if not card.probabilistic:
        raise ConfigError(
            f"{request.probe}: scores of {card.classifier} are no probabilities; detect with a probe of mlp, "
            "linear, logreg, lda or knn"
        )
    _require_plain_classes(card, request.probe)
    notes = []
    window_s = request.window_s if request.window_s is not None else card.clip_s
    if window_s is None:
        raise ConfigError(
            f"{request.probe}: saved by an earlier version, which did not keep how long its training clips "
            "are; give --window in seconds, or save it again"
        )
    if request.window_s is None:
        notes.append(f"window {window_s:.4g} s: the median training clip")
    background = _background(request, card, notes)
    if not card.calibration:
        notes.append("probabilities are not calibrated: the probe has no validation rows; save it again")
    thresholds, chosen = _thresholds(request, probe, background, notes)
    return DetectPlan(
        probe=probe,
        grid=WindowGrid(
            window_s=window_s, hop_s=request.hop_s if request.hop_s is not None else window_s / 2
        ),
        rule=EventRule(
            thresholds=thresholds,
            gap_s=request.gap_s,
            min_event_s=request.min_event_s,
            one_class=not card.multilabel,
        ),
        background=background,
        chosen=chosen,
        notes=tuple(notes),
    )


def choose_by_events(request: DetectRequest, plan: DetectPlan, channel: str) -> DetectPlan:
    """A plan with the thresholds that annotated events choose, where these were asked for.

    Raises:
        UserError: see `thresholds_by_events`.
        ConfigError: no class reaches the precision.
    """
    asked, precision = request.events_of, request.precision
    if asked is None or precision is None:
        return plan
    chosen = thresholds_by_events(
        asked,
        precision,
        decides=plan.decides(channel),
        classes=plan.classes,
        silent=plan.background,
        rule=plan.rule,
        grid=plan.grid,
    )
    lost = [name for name, t in chosen.items() if t.value != t.value]
    said = f"precision {precision:g} is not reached by events of {asked.folder}"
    if len(lost) == len(chosen):
        raise ConfigError(
            f"--{said}, of no class ({_best_events(chosen, lost)}); ask for less, for less overlap (--iou), "
            "or for shorter windows in both runs"
        )
    notes = [f"{said}, so no events of: {_best_events(chosen, lost)}; ask for less"] if lost else []
    none = float("nan")
    thresholds = tuple(chosen[n].value if n in chosen else none for n in plan.classes)
    return replace(
        plan,
        rule=replace(plan.rule, thresholds=thresholds),
        chosen_by_events=chosen,
        notes=(*plan.notes, *notes),
    )


def _best_events(chosen: Mapping[str, EventThreshold], names: Sequence[str]) -> str:
    def said(t: EventThreshold) -> str:
        return f"best {t.precision:.2f}" if t.n_events else "no events"

    return ", ".join(f"{name} ({said(chosen[name])})" for name in names)


def _background(request: DetectRequest, card: ProbeCard, notes: list[str]) -> str | None:
    if request.background is not None and request.background not in card.classes:
        raise ConfigError(
            f"--background {request.background}: the probe knows {', '.join(card.classes)}"
            f"{did_you_mean(request.background, card.classes)}"
        )
    found = request.background or (BACKGROUND if BACKGROUND in card.classes else None)
    if found is None and not card.multilabel:
        notes.append(
            f"the probe has no class for what is none of its calls (such as {BACKGROUND!r}, which "
            "`fs manifest … --background` makes): its probabilities say which of its classes a sound is "
            "likest, not that it is one of them; expect events in noise"
        )
    return found


def _thresholds(
    request: DetectRequest, probe: SavedProbe, background: str | None, notes: list[str]
) -> tuple[tuple[float, ...], dict[str, Threshold]]:
    card, none = probe.card, float("nan")
    if request.precision is None or request.events_of is not None:
        value = request.threshold if request.threshold is not None else DEFAULT_THRESHOLD
        return tuple(none if name == background else value for name in card.classes), {}
    if probe.validation is None:
        raise ConfigError(
            f"--precision: {request.probe} keeps no validation rows to choose thresholds by; save it again, "
            "or give --threshold"
        )
    notes.append(
        f"--precision {request.precision:g} is that of validation clips, not of events in recordings; "
        "--events-of chooses thresholds by events"
    )
    rows = probe.validation
    p = calibrated(rows.scores, card.calibration["temperature"], multilabel=card.multilabel)
    likeliest = p.argmax(axis=1)
    chosen = {
        name: threshold_for(
            p[:, k], rows.is_of(k), request.precision, None if card.multilabel else likeliest == k
        )
        for k, name in enumerate(card.classes)
        if name != background
    }
    lost = [name for name, t in chosen.items() if t.value != t.value]
    if len(lost) == len(chosen):
        raise ConfigError(
            f"--precision {request.precision:g}: no class reaches it on the {len(rows.scores):,} validation "
            f"rows ({_best(chosen, lost)}); ask for less, or give --threshold"
        )
    if lost:
        notes.append(
            f"precision {request.precision:g} is not reached on validation rows, so no events of: "
            f"{_best(chosen, lost)}; ask for less, or give --threshold"
        )
    return tuple(chosen[n].value if n in chosen else none for n in card.classes), chosen


def _best(chosen: Mapping[str, Threshold], names: Sequence[str]) -> str:
    def said(t: Threshold) -> str:
        return f"best {t.precision:.2f}" if t.n_rows else "no validation rows"

    return ", ".join(f"{name} ({said(chosen[name])})" for name in names)


def _require_plain_classes(card: ProbeCard, folder: Path) -> None:
    for name in card.classes:
        if any(c in name for c in "\t\r\n"):
            raise ConfigError(
                f"{folder}: class {name!r}: a tab or a line end in a class breaks the tables; rename the "
                "class in the manifest, and train again"
            )


def _hash_of(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256 of arrays and their names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name}:{array.dtype.str}:{array.shape}:".encode() + array.tobytes())
    return found.hexdigest()
