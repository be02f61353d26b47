"""Windows of many recordings through one model: decoded ahead in threads, batched across recordings.

What is held at any time are a few groups of windows of each recording that is being decoded, one batch, and
the events that were found: nothing grows with the length of a recording but what is written of it.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from extractors.audio.recording_windows import Heard, RecordingWindow, SilentWindow, windows_of
from extractors.audio.waveform import PreparedClip
from extractors.run.clip_vectors import ClipVectors
from featurestore.arrays import FloatArray, IntArray
from featurestore.audio.segment import AudioError, channels
from featurestore.format.row_arrays import STATUS_OK
from studies.detection.events import Event, EventJoiner
from studies.detection.recordings import Recording
from studies.detection.request import DetectPlan
from studies.detection.unit_files import RecordingError, UnitRecord
from studies.detection.window_scores import ScoresFile

# Groups of windows of a recording that wait for the model.
GROUPS_AHEAD = 2
_LOOK_S = 0.1  # how often a thread that waits looks whether it shall stop


@dataclass
class RecordingScores:
    """A recording while its windows come in, channel by channel.

    Args:
        recording: which.
        plan: windows and rule.
        scores: where probabilities of windows go; None: nowhere.
        ends_batch: no window of the next recording goes through the model together with one of this.

    Attributes:
        error: why there will be no results; "" while there may be.
    """

    recording: Recording
    plan: DetectPlan
    scores: Path | None
    ends_batch: bool = True
    error: str = ""
    _heard: Heard = field(default_factory=Heard)
    _joiner: EventJoiner | None = None
    _events: list[Event] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=lambda: {"windows": 0, "silent": 0, "failed": 0})
    _reason: str = ""
    _file: ScoresFile | None = None

    def hears(self, heard: Heard) -> bool:
        """Whether the windows that come are those of this channel."""
        return self._heard is heard

    def begin(self, channel: int | None, heard: Heard) -> None:
        """The windows of a channel will come."""
        self._end_channel()
        self._heard = heard
        self._joiner = EventJoiner(self.plan.classes, self.plan.rule, channel)
        if self.scores is not None and self._file is None:
            self._file = ScoresFile(self.scores, self.plan.classes)
        if self._file is not None:
            self._file.channel = channel

    def add(self, index: IntArray, status: Sequence[str], p: FloatArray) -> None:
        """The next windows of the channel: their numbers, statuses, and probabilities `[n, C]`."""
        assert self._joiner is not None
        start_s, end_s = self.plan.grid.stretches(index, self._heard.n_samples, self._heard.rate_hz)
        self._joiner.add(start_s, end_s, p)
        if self._file is not None:
            self._file.add(start_s, end_s, p)
        failed = [s for s in status if s not in (STATUS_OK, SILENT)]
        self._reason = self._reason or (failed[0] if failed else "")
        self._counts["windows"] += len(status)
        self._counts["silent"] += sum(s == SILENT for s in status)
        self._counts["failed"] += len(failed)

    def finish(self, run: str) -> UnitRecord:
        """What was found, without its files.

        Raises:
            RecordingError: no window had a vector, and not because of silence.
        """
        self._end_channel()
        if self._file is not None:
            self._file.close()
        counts, heard = self._counts, self._heard
        if counts["failed"] and counts["failed"] + counts["silent"] == counts["windows"]:
            raise RecordingError(self._reason.removeprefix("failed: "))
        return UnitRecord(
            run=run,
            path=self.recording.path,
            name=self.recording.name,
            stamp=heard.stamp,
            audio_hash=heard.audio_hash,
            rate_hz=heard.rate_hz,
            duration_s=heard.n_samples / heard.rate_hz,
            n_windows=counts["windows"],
            n_silent=counts["silent"],
            n_failed=counts["failed"],
            events=tuple(sorted(self._events, key=lambda e: (e.start_s, e.end_s))),
        )

    def close(self) -> None:
        """Let go of what is open, and of scores that nobody took."""
        if self._file is not None:
            self._file.close()
        if self.scores is not None:
            self.scores.unlink(missing_ok=True)

    def _end_channel(self) -> None:
        if self._joiner is not None:
            self._events += self._joiner.finish()
            self._joiner = None


SILENT = "silent"


@dataclass(frozen=True)
class _Group:
    """Windows of a channel that were decoded together."""

    channel: int | None
    heard: Heard
    windows: list[RecordingWindow]


class _Reader:
    """Decodes the windows of one recording in a thread, a little ahead of who takes them."""

    def __init__(
        self, of: RecordingScores, vectors: ClipVectors, channel: str, stop: threading.Event
    ) -> None:
        self.of = of
        self._vectors = vectors
        self._channel = channel
        self._stop = stop
        self._groups: queue.Queue[_Group | BaseException | None] = queue.Queue(GROUPS_AHEAD)
        threading.Thread(target=self._run, daemon=True).start()

    def groups(self) -> Iterator[_Group]:
        """What was decoded, in order.

        Raises:
            AudioError: the recording cannot be read, or not to its end.
        """
        while (found := self._groups.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def _run(self) -> None:
        try:
            path, grid, policy = self.of.recording.path, self.of.plan.grid, self._vectors.policy
            for channel in channels_of(path, self._channel):
                heard = Heard()
                for windows in windows_of(path, channel, grid, policy, heard):
                    if not self._put(_Group(channel, heard, windows)):
                        return
            self._put(None)
        except BaseException as error:  # whoever takes the windows raises it
            self._put(error)

    def _put(self, group: _Group | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._groups.put(group, timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False


def channels_of(path: str, choice: str) -> list[int | None]:
    """Channels of a file that are looked through: ``mix``, ``each`` or a number.

    Raises:
        AudioError: the file cannot be opened.
    """
    if choice == "mix":
        return [None]
    if choice == "each":
        return list(range(channels(path)))
    return [int(choice)]


@dataclass
class _Batch:
    """Windows that go through the model together."""

    of: list[RecordingScores] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    clips: list[PreparedClip | AudioError] = field(default_factory=list)


def score(
    pending: Iterator[RecordingScores],
    vectors: ClipVectors,
    *,
    channel: str,
    workers: int,
    on_done: Callable[[RecordingScores], None],
    on_windows: Callable[[float], None],
) -> None:
    """Score the windows of recordings, in order.

    Args:
        pending: the recordings; a few are taken ahead.
        vectors: the model.
        channel: see `channels_of`.
        workers: recordings that are decoded at once.
        on_done: told of each recording, in order, once all of it was scored or it failed.
        on_windows: told the seconds of audio that were scored.
    """
    scorer = _Scorer(vectors, on_windows)
    with ExitStack() as stack:
        stop = threading.Event()
        stack.callback(stop.set)
        readers: deque[_Reader] = deque()
        waiting: deque[RecordingScores] = deque()  # decoded to their end, some windows not scored yet

        def settle() -> None:
            while waiting and scorer.has_done(waiting[0]):
                on_done(waiting.popleft())

        def start() -> None:
            of = next(pending, None)
            if of is not None:
                readers.append(_Reader(of, vectors, channel, stop))

        for _ in range(workers):
            start()
        while readers:
            reader = readers.popleft()
            try:
                for group in reader.groups():
                    scorer.add(reader.of, group)
                    settle()
            except AudioError as error:
                reader.of.error = str(error)
            waiting.append(reader.of)
            if reader.of.ends_batch:
                scorer.flush()
            start()
            settle()


class _Scorer:
    """Gathers windows to batches, and hands their probabilities to their recordings in order."""

    def __init__(self, vectors: ClipVectors, on_windows: Callable[[float], None]) -> None:
        self._vectors = vectors
        self._on_windows = on_windows
        self._batch = _Batch()

    def has_done(self, of: RecordingScores) -> bool:
        """Whether no window of a recording is waiting."""
        return not any(one is of for one in self._batch.of)

    def add(self, of: RecordingScores, group: _Group) -> None:
        """Take in windows; whole batches go through the model."""
        if not of.hears(group.heard):
            if not self.has_done(of):
                self.flush()  # what is left of the channel before it
            of.begin(group.channel, group.heard)
        for window in group.windows:
            self._batch.of.append(of)
            self._batch.index.append(window.index)
            self._batch.clips.append(window.clip)
            if len(self._batch.clips) == self._vectors.batch_clips:
                self.flush()

    def flush(self) -> None:
        """Score what is gathered."""
        batch, self._batch = self._batch, _Batch()
        if not batch.clips:
            return
        status, x = self._vectors.vectors(batch.clips)
        for i, clip in enumerate(batch.clips):
            if isinstance(clip, SilentWindow):
                status[i] = SILENT
        ok = np.array([s == STATUS_OK for s in status])
        plan = batch.of[0].plan
        p = np.full((len(ok), len(plan.classes)), np.nan, dtype=np.float32)
        if ok.any():
            p[ok] = plan.probe.probabilities(x[ok])
        first = 0
        for stop in range(1, len(ok) + 1):
            if stop < len(ok) and batch.of[stop] is batch.of[first]:
                continue
            some = slice(first, stop)
            of = batch.of[first]
            if not of.error:
                of.add(np.array(batch.index[some], dtype=np.int64), status[some], p[some])
            first = stop
        self._on_windows(plan.grid.hop_s * len(ok))
