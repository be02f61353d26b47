"""A saved probe over recordings: `detect`, which goes on where it was."""

from __future__ import annotations

import io
import itertools
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extractors.run.clip_vectors import ClipVectors
from featurestore.audio.segment import AudioError, header
from featurestore.audio.time_expansion import check_time_expansion
from featurestore.errors import ConfigError, FingerprintMismatch
from featurestore.fingerprint import diff, digest
from featurestore.names import is_whole_number
from featurestore.outputs import check_folder, put_file, writing
from featurestore.printable import json_text
from featurestore.spreadsheet import spreadsheet_csv
from probes.saved.probe_files import SavedProbe, read_probe
from studies.detection.agreement import ClassScore, agreement, agreement_table
from studies.detection.event_thresholds import MORE_DIFFERENCES, keep_truth
from studies.detection.recordings import Recording, find_recordings
from studies.detection.request import DetectPlan, DetectRequest, choose_by_events, make_plan
from studies.detection.scoring import RecordingScores, channels_of, score
from studies.detection.truth import Truth, read_truth
from studies.detection.unit_files import (
    ADVICE,
    FORMAT,
    RUN_NAME,
    RecordingError,
    UnitRecord,
    file_hash,
    read_record,
    read_records,
    read_run,
    require_name_free,
    scores_name,
    table_name,
    withdraw,
    write_unit,
)
from studies.probe_embedding import probe_extraction

if TYPE_CHECKING:
    import pandas as pd

    from extractors.config import ExtractConfig

# Columns of the events, before and behind that of the label: with it they are a manifest.
PLACE = ("path", "start_s", "end_s", "channel")
SAID = ("probability", "n_windows")


@dataclass(frozen=True, kw_only=True)
class DetectProgress:
    """How far a run is: recordings done (this run only), and seconds of audio, done and in all."""

    recordings_done: int
    recordings_total: int
    failed: int
    audio_s: float
    total_s: float


OnProgress = Callable[[DetectProgress], None]


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What `detect` found.

    Attributes:
        out: folder of the results.
        plan: windows, thresholds and classes.
        records: of all recordings that have results in `out`.
        n_done: recordings that this run did; the others were there.
        failed: path → why a recording has no results.
        changed: tables that were changed since they were written, and left as they are.
        device: of the model; "" where nothing was to do.
        scores: how right it was, where the truth was given.
        unnamed: recordings that the truth says nothing of, and that are not in `scores`.
        strange: classes of the truth, where none of them is one that the probe finds.
    """

    out: Path
    plan: DetectPlan
    records: Sequence[UnitRecord]
    n_done: int
    failed: Mapping[str, str] = field(default_factory=dict)
    changed: Sequence[str] = ()
    device: str = ""
    scores: Sequence[ClassScore] = ()
    unnamed: Sequence[str] = ()
    strange: Sequence[str] = ()


def detect(request: DetectRequest, on_progress: OnProgress | None = None) -> Detections:
    """Find what a probe knows in recordings.

    Every recording is a unit of its own: its tables are written whole, its record last. Run again, the same
    call does what is missing, and recordings that changed meanwhile.

    Raises:
        UserError: of the kind that fits, before any weights are loaded.
    """
    check_folder(request.out)
    probe = read_probe(request.probe)
    plan = make_plan(request, probe)
    recordings = find_recordings(request.recordings)
    config = _extraction(request, probe)
    notes = _time_expansion(request, recordings, config)
    plan = replace(plan, notes=(*plan.notes, *notes))
    channel = request.channel or config.channel
    plan = choose_by_events(request, plan, channel)
    truth = None
    if request.truth is not None:
        truth = read_truth(request.truth, recordings, probe.card.label, plan.background)
    decides = plan.decides(channel)
    run = digest(decides)
    _open_results(request, decides, run)
    before = {r.name: read_record(request.out, r.name) for r in recordings}
    for recording in recordings:
        require_name_free(request.out, before[recording.name], recording)
    todo = [r for r in recordings if not _is_done(request, before[r.name], r, run)]
    job = _Job(request=request, plan=plan, run=run, before=before, on_progress=on_progress)
    device = ""
    if todo:
        vectors = ClipVectors(config, longest_s=plan.grid.window_s)
        device = vectors.device
        job.run_all(recordings, {r.name for r in todo}, vectors, channel, config.n_threads)
    records = [r for r in read_records(request.out) if r.run == run]
    write_summary(request.out, records, probe.card.label)
    asked = {recording.path for recording in recordings}
    scores = _scores(request, plan, truth, [r for r in records if r.path in asked])
    return Detections(
        out=request.out,
        plan=plan,
        records=records,
        n_done=job.n_done,
        failed=job.failed,
        changed=_changed(request.out, records),
        device=device,
        scores=scores,
        unnamed=[] if truth is None else truth.unnamed,
        strange=[] if truth is None else _strange(truth, plan),
    )


def _extraction(request: DetectRequest, probe: SavedProbe) -> ExtractConfig:
    return probe_extraction(
        request.probe,
        probe.card,
        manifest=Path("recordings"),  # neither is looked at: nothing is stored
        store="unused",
        dataset="detected",
        model=request.model,
        device=request.device,
        workers=request.workers,
        torch_weights=request.torch_weights,
        batch_seconds=request.batch_seconds,
    )


def _strange(truth: Truth, plan: DetectPlan) -> list[str]:
    named = set(truth.events["label"])
    return [] if named & set(plan.classes) else sorted(named)


def _time_expansion(
    request: DetectRequest, recordings: Sequence[Recording], config: ExtractConfig
) -> list[str]:
    """See `check_time_expansion`; samples that are read as if at the model's rate are the same at any."""
    if config.rate_policy == "expand":
        return []
    paths = (recording.path for recording in recordings)
    return check_time_expansion(paths, "recordings", is_asked=request.time_expanded, workers=config.n_threads)


@dataclass
class _Job:
    """The recordings of one run, as they are done."""

    request: DetectRequest
    plan: DetectPlan
    run: str
    before: Mapping[str, UnitRecord | None]
    on_progress: OnProgress | None
    n_done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    _audio_s: float = 0.0
    _total_s: float = 0.0
    _n_total: int = 0
    _todo: set[str] = field(default_factory=set)

    def run_all(
        self,
        recordings: Sequence[Recording],
        todo: set[str],
        vectors: ClipVectors,
        channel: str,
        workers: int,
    ) -> None:
        """Score what is to be done and write it."""
        self._todo = todo
        groups = _groups(recordings, self.plan, channel, vectors.batch_clips)
        groups = [g for g in groups if any(r.name in todo for r in g.recordings)]
        self._total_s = sum(g.seconds for g in groups)
        self._n_total = sum(len(g.recordings) for g in groups)
        with _scores_folder(self.request.out) as folder:
            score(
                self._pending(groups, folder),
                vectors,
                channel=channel,
                workers=workers,
                on_done=self._write,
                on_windows=self._tell,
            )

    def _pending(self, groups: Sequence[_RecordingGroup], folder: Path) -> Iterator[RecordingScores]:
        numbers = itertools.count()
        for group in groups:
            for i, recording in enumerate(group.recordings):
                wants = self.request.scores and recording.name in self._todo
                file = folder / f"{next(numbers)}.parquet" if wants else None
                ends = i == len(group.recordings) - 1
                yield RecordingScores(recording, self.plan, file, ends_batch=ends)

    def _write(self, of: RecordingScores) -> None:
        name = of.recording.name
        try:
            if of.error:
                raise RecordingError(of.error)
            record = of.finish(self.run)
            if name in self._todo:
                write_unit(
                    self.request.out,
                    record,
                    self.plan.card.label,
                    self.request.formats,
                    before=self.before[name],
                    scores=of.scores,
                    overwrite=self.request.overwrite,
                )
                self.n_done += 1
        except RecordingError as error:
            self.failed[of.recording.path] = str(error)
        finally:
            of.close()

    def _tell(self, seconds: float) -> None:
        self._audio_s += seconds
        if self.on_progress:
            self.on_progress(
                DetectProgress(
                    recordings_done=self.n_done,
                    recordings_total=self._n_total,
                    failed=len(self.failed),
                    audio_s=min(self._audio_s, self._total_s),
                    total_s=self._total_s,
                )
            )


@dataclass(frozen=True)
class _RecordingGroup:
    """Recordings whose windows may go through the model together, and their seconds."""

    recordings: list[Recording]
    seconds: float


def _groups(
    recordings: Sequence[Recording], plan: DetectPlan, channel: str, batch_clips: int
) -> list[_RecordingGroup]:
    """Recordings in runs that fill a batch.

    A vector may differ in its last digits with what else is in its batch. So what goes together is decided
    by the list of recordings alone, and not by what is left to do of it: a run that goes on gives what one
    would have given that never stopped.
    """
    found: list[_RecordingGroup] = []
    group: list[Recording] = []
    seconds, n_windows = 0.0, 0
    for recording in recordings:
        group.append(recording)
        try:
            n, rate = header(recording.path)
            n_channels = len(channels_of(recording.path, channel))
            seconds += n_channels * n / rate
            n_windows += n_channels * plan.grid.count(n, rate)
        except AudioError:
            pass  # it will say so when it is its turn
        if n_windows >= batch_clips:
            found.append(_RecordingGroup(group, seconds))
            group, seconds, n_windows = [], 0.0, 0
    return [*found, _RecordingGroup(group, seconds)] if group else found


@contextmanager
def _scores_folder(out: Path) -> Iterator[Path]:
    """A hidden folder for probabilities that are not whole yet; those of killed runs are removed."""
    import psutil

    mine = f".scores-{platform.node()}-"
    for left in out.glob(f"{mine}*"):
        if is_whole_number(pid := left.name.removeprefix(mine)) and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    folder = out / f"{mine}{os.getpid()}"
    with writing(out, ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_results(request: DetectRequest, decides: Mapping[str, Any], run: str) -> None:
    """Begin a folder of results, or go on with one of the same run.

    Raises:
        FingerprintMismatch: it holds those of another probe or of other options.
        ConfigError: it holds something else.
    """
    out = request.out
    if (there := read_run(out)) is not None:
        differences = diff(there, decides)
        if differences and not request.overwrite:
            more = len(differences) - MORE_DIFFERENCES
            shown = "; ".join(d.replace("requested", "here") for d in differences[:MORE_DIFFERENCES])
            raise FingerprintMismatch(
                f"--out {out}: holds detections that were made in another way: {shown}"
                f"{f'; and {more} more' if more > 0 else ''}; choose another folder, or replace them with "
                "--overwrite"
            )
        if differences:
            for record in read_records(out):
                if record.run != run:
                    withdraw(out, record)
    elif out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: this folder holds something else; choose another, or a new one")
    content = {"format": FORMAT, "decides": dict(decides)}
    with writing(out, ADVICE):
        out.mkdir(parents=True, exist_ok=True)
        put_file((json_text(content, indent=2) + "\n").encode(), out / RUN_NAME)


def _is_done(request: DetectRequest, record: UnitRecord | None, recording: Recording, run: str) -> bool:
    if record is None or not record.is_of(run, recording):
        return False
    wanted = [table_name(f, recording.name) for f in request.formats]
    wanted += [scores_name(recording.name)] if request.scores else []
    return all(name in record.files and (request.out / name).is_file() for name in wanted)


def _changed(out: Path, records: Sequence[UnitRecord]) -> list[str]:
    """Tables that are others than were written."""
    return [name for r in records for name, was in r.files.items() if file_hash(out / name) not in ("", was)]


def _scores(
    request: DetectRequest, plan: DetectPlan, truth: Truth | None, records: Sequence[UnitRecord]
) -> list[ClassScore]:
    """Compare what was found with the truth, and write ``agreement.csv``; nothing without a truth."""
    if request.truth is None or truth is None or not records:
        return []
    label = plan.card.label
    scores = agreement(
        events_table(records, label).rename(columns={label_column(label): "label"}),
        truth,
        request.truth,
        durations_s={r.path: r.duration_s for r in records},
        window_s=plan.grid.window_s,
        classes=[c for c in plan.classes if c != plan.background],
    )
    with writing(request.out, ADVICE):
        keep_truth(request.out, truth, [r.path for r in records])
        table = spreadsheet_csv(agreement_table(scores), float_format="%.6g")
        put_file(table.encode(), request.out / "agreement.csv")
    return scores


def label_column(label: str) -> str:
    """What the column of classes is called: as the label, unless a column beside it is called so."""
    return "label" if label in SAID else label


def events_table(records: Sequence[UnitRecord], label: str) -> pd.DataFrame:
    """All events: ``path, start_s, end_s, channel``, the label, ``probability, n_windows``."""
    import pandas as pd

    rows = [
        (r.path, e.start_s, e.end_s, e.channel, e.label, e.probability, e.n_windows)
        for r in records
        for e in r.events
    ]
    named = label_column(label)
    table = pd.DataFrame(rows, columns=[*PLACE, named, *SAID])
    kinds = {"path": "str", "start_s": "float64", "end_s": "float64", "channel": "Int64", named: "str"}
    return table.astype({**kinds, "probability": "float64", "n_windows": "int64"})


def recordings_table(records: Sequence[UnitRecord]) -> pd.DataFrame:
    """A row per recording that has results."""
    import pandas as pd

    columns = ("path", "duration_s", "rate_hz", "n_windows", "n_silent", "n_failed", "audio_hash")
    rows = [{**{c: getattr(r, c) for c in columns}, "n_events": len(r.events)} for r in records]
    return pd.DataFrame(rows, columns=[*columns, "n_events"])


def write_summary(out: Path, records: Sequence[UnitRecord], label: str) -> None:
    """Write ``events.parquet``, ``events.csv`` and ``recordings.csv``."""
    events = events_table(records, label)
    buffer = io.BytesIO()
    events.to_parquet(buffer, index=False)
    with writing(out, ADVICE):
        put_file(buffer.getvalue(), out / "events.parquet")
        put_file(spreadsheet_csv(events).encode(), out / "events.csv")
        put_file(spreadsheet_csv(recordings_table(records)).encode(), out / "recordings.csv")
