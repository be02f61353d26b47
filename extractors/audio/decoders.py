"""Who decodes: threads of this process, or processes beside it.

Threads share everything and start at once. What they do in Python they do one at a time, and the thread that
feeds the model waits for its turn as they do: beside a GPU that takes thousands of clips a second, processes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event
from typing import Literal, Protocol

from extractors.audio.decoder_process import HUSHED, receive
from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import ClipByPolicy, load_together
from featurestore.apart.socket_process import Lost, SocketProcess
from featurestore.audio.decoder_noise import HUSH
from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError
from featurestore.compute.task_runners import THREAD_VARIABLES, available_cores, decoding_threads
from featurestore.errors import ProcessLost
from featurestore.manifest.location import Location
from featurestore.printable import counted

Decode = Literal["auto", "threads", "processes"]
# Cores for each GPU from which on decoders are processes, and most of these unless somebody says otherwise.
CORES_FOR_PROCESSES = 4
MOST_PROCESSES = 16
# Times that a process is started before its start is taken to be impossible.
_STARTS = 2


@dataclass(frozen=True, kw_only=True)
class DecoderChoice:
    """How many decoders there are, and of which kind."""

    in_processes: bool
    n: int

    def open(self) -> Decoders:
        """The decoders, none of which is at work yet; to be closed as a context manager."""
        return ProcessDecoders() if self.in_processes else ThreadDecoders()

    def __str__(self) -> str:
        return f"{self.n} {'processes' if self.in_processes else 'threads'}"


def choose_decoders(decode: Decode, workers: int | None, device: str, n_devices: int = 1) -> DecoderChoice:
    """The decoders of one process that embeds.

    Args:
        decode: what was asked for. ``auto``: processes beside a GPU that has `CORES_FOR_PROCESSES` cores or
            more to itself; threads on a CPU, whose cores the model has.
        workers: how many; None: a thread for each core up to eight, or a process for each core but the one
            that feeds the GPU, up to `MOST_PROCESSES`.
        device: torch device of the model.
        n_devices: processes that embed on this machine and share its cores.
    """
    cores = available_cores() // n_devices
    is_fit = device != "cpu" and cores >= CORES_FOR_PROCESSES
    in_processes = decode == "processes" or (decode == "auto" and is_fit)
    if workers is None:
        workers = max(1, min(MOST_PROCESSES, cores - 1)) if in_processes else decoding_threads()
    return DecoderChoice(in_processes=in_processes, n=workers)


class Decoders(Protocol):
    """Decode clips in whichever thread asks; a context manager that leaves nothing behind."""

    def load(self, places: Sequence[Location], policies: Sequence[AudioPolicy]) -> list[ClipByPolicy]:
        """Clips, decoded together; see `load_together`.

        Raises:
            CancelledError: `stop` was called.
        """

    def stop(self) -> None:
        """Begin no further clip, and have those who wait for one go on."""

    def notes(self) -> list[str]:
        """What is worth telling of how it went."""

    def __enter__(self) -> Decoders: ...

    def __exit__(self, *_error: object) -> None: ...


class ThreadDecoders:
    """Decode in the thread that asks; recordings stay open for all of them."""

    def __init__(self) -> None:
        self._recordings = Recordings()
        self._stop = Event()

    def load(self, places: Sequence[Location], policies: Sequence[AudioPolicy]) -> list[ClipByPolicy]:
        """See `Decoders`."""
        return load_together(places, policies, self._recordings, self._stop)

    def stop(self) -> None:
        """See `Decoders`."""
        self._stop.set()

    def notes(self) -> list[str]:
        """See `Decoders`."""
        return []

    def __enter__(self) -> ThreadDecoders:
        return self

    def __exit__(self, *_error: object) -> None:
        self._recordings.__exit__()


class ProcessDecoders:
    """Decode in processes: as many as there are threads that ask at the same time.

    A process that is lost while it decodes (a fault in a codec, a lack of memory) is started anew. Its clips
    are tried once more, each alone; one that costs its process again fails, with the reason.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: set[_Process] = set()
        self._idle: list[_Process] = []
        self._stopped = Event()
        self._n_lost = 0

    def load(self, places: Sequence[Location], policies: Sequence[AudioPolicy]) -> list[ClipByPolicy]:
        """See `Decoders`.

        Raises:
            CancelledError: `stop` was called.
            ProcessLost: no process can be started.
        """
        policies = list(dict.fromkeys(policies))
        try:
            return self._ask(places, policies)
        except Lost:
            return [self._alone(place, policies) for place in places]

    def _alone(self, place: Location, policies: Sequence[AudioPolicy]) -> ClipByPolicy:
        try:
            return self._ask([place], policies)[0]
        except Lost as lost:
            return dict.fromkeys(policies, AudioError(f"its decoder was lost twice ({_how(lost)})"))

    def _ask(self, places: Sequence[Location], policies: Sequence[AudioPolicy]) -> list[ClipByPolicy]:
        process = self._take()
        try:
            found = process.ask(places, policies)
        except Lost:
            self._give_up(process)
            with self._lock:
                self._n_lost += 1
            raise
        with self._lock:
            self._idle.append(process)
        if isinstance(found, Exception):
            raise found
        return found

    def _take(self) -> _Process:
        """A process that has nothing to do, a new one where all have."""
        for _ in range(_STARTS):
            with self._lock:
                if self._stopped.is_set():
                    raise CancelledError
                if self._idle:
                    return self._idle.pop()
            try:
                process = _Process()
            except OSError as error:
                lost = Lost(error.strerror or type(error).__name__)
                continue
            with self._lock:
                self._all.add(process)
                if self._stopped.is_set():
                    process.kill()
            try:
                process.begin()
            except Lost as error:
                lost = error
                self._give_up(process)
            else:
                return process
        raise ProcessLost(
            f"a decoder process could not be started ({_how(lost)}); --decode threads decodes in this process"
        )

    def _give_up(self, process: _Process) -> None:
        """Forget a process that was lost.

        Raises:
            CancelledError: it was ended by `stop`.
        """
        process.close()
        with self._lock:
            self._all.discard(process)
            if self._stopped.is_set():
                raise CancelledError

    def stop(self) -> None:
        """See `Decoders`; clips that are being decoded are not waited for."""
        with self._lock:
            self._stopped.set()
            for process in self._all:
                process.kill()

    def notes(self) -> list[str]:
        """See `Decoders`."""
        if not self._n_lost:
            return []
        were = "was" if self._n_lost == 1 else "were"
        lost = counted(self._n_lost, "decoder process", "decoder processes")
        return [f"{lost} {were} lost and started anew"]

    def __enter__(self) -> ProcessDecoders:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        for process in self._all:
            process.close()


class _Process:
    """A decoder process, asked by one thread at a time."""

    def __init__(self) -> None:
        options = [HUSHED] if HUSH.is_on else []
        environment = dict.fromkeys(THREAD_VARIABLES, "1")
        self._process = SocketProcess("extractors.audio.decoder_process", *options, environment=environment)
        self.begin, self.kill, self.close = self._process.begin, self._process.kill, self._process.close

    def ask(
        self, places: Sequence[Location], policies: Sequence[AudioPolicy]
    ) -> list[ClipByPolicy] | Exception:
        """Clips, or what went wrong with all of them.

        Raises:
            Lost: it ended before it answered.
        """
        try:
            self._process.connection.send((places, policies))
            return receive(self._process.connection, policies)
        except (EOFError, OSError) as error:
            raise self._process.lost() from error


def _how(lost: Lost) -> str:
    why = (
        "most often for want of memory"
        if lost.stopped_by == signal.SIGKILL
        else "most often a fault in a codec"
    )
    return f"{lost}, {why}" if lost.stopped_by else str(lost)
