"""A process of ours that is kept to be asked again, for what may cost a process its life.

Native code that decodes files of anybody may abort, write where it must not, or take all memory. What it does
in a process apart costs that process, within the limits here; the answer comes as what it could pickle, and
as bytes: a few through the socket, more as a file without a name that the asker takes over.
"""

from __future__ import annotations

import atexit
import io
import mmap
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, BinaryIO, Concatenate, ParamSpec, TypeVar

from featurestore.apart.socket_process import Lost, SocketProcess, answering, ready
from featurestore.errors import one_line

P = ParamSpec("P")
R = TypeVar("R")

# Of one answer. The largest table that is read takes some 20 s; a disk may be slow, so the clock has longer.
MOST_CPU_S = 300
MOST_S = 1800
# Beside what a process has at its start, until the function says more by `limit_memory`.
_ROOM_BYTES = 1 << 30
# Of the file, from one answer to the next.
_KEPT_BYTES = 1 << 26
# What comes through the socket: small tables need no file, which a limit of the system may forbid.
_SMALL_BYTES = 1 << 20
# Times that a question is put: what an earlier answer left behind in a process is no fault of this one.
_TIMES = 2


class KeptProcess:
    """A process that is started when it is first asked, and anew where it was lost.

    Several threads may ask; one at a time is answered.

    Args:
        environment: variables that are other there than here.
    """

    def __init__(self, **environment: str) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._process: SocketProcess | None = None
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def ask(
        self, function: Callable[Concatenate[BinaryIO, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, memoryview]:
        """What a function of a module returns, and what it wrote to its first argument.

        Args:
            function: found there by its name.
            args: picklable, as `kwargs` and what the function returns or raises must be.
            kwargs: see `args`.

        Raises:
            Lost: the process ended without an answer, also one that had answered nothing before.
            Exception: whatever the function raises.
        """
        with self._lock:
            for time in range(_TIMES):
                is_fresh = self._process is None
                try:
                    succeeded, value, written = self._answer((function, args, kwargs))
                    break
                except Lost:
                    if is_fresh or time == _TIMES - 1:
                        raise
        if not succeeded:
            raise value
        return value, written

    def _answer(self, question: Any) -> tuple[bool, Any, memoryview]:
        try:
            if self._process is None:
                self._process = self._started()
            connection = self._process.connection
            self._said_before = os.fstat(self._said.fileno()).st_size
            connection.send(question)
            if not connection.poll(MOST_S):
                raise Lost(f"no answer within {MOST_S:,} s", signal.SIGKILL)
            succeeded, value, n_bytes, small = connection.recv()
            if succeeded is None:
                raise Lost(f"an answer that could not be written ({value})")
            if n_bytes <= _SMALL_BYTES:
                return succeeded, value, memoryview(small)
            descriptor = recv_handle(connection)
            try:
                return succeeded, value, _copied(descriptor, n_bytes)
            finally:
                os.close(descriptor)
        except (EOFError, OSError) as error:
            process = self._process
            lost = Lost(one_line(error)) if process is None else self._how(process.lost())
            self.close()
            raise lost from error
        except BaseException:  # asked, and not answered: the next answer would be this one's
            self.close()
            raise

    def _started(self) -> SocketProcess:
        self._said, self._said_before = _nameless(), 0  # also where the disk is full
        process = SocketProcess(__name__, environment=self._environment, error_output=self._said)
        try:
            process.begin()
        except BaseException as error:
            process.close()
            told = self._how(error) if isinstance(error, Lost) else error
            self._said.close()
            raise told from None
        return process

    def _how(self, lost: Lost) -> Lost:
        """With what it said of itself."""
        self._said.seek(self._said_before)
        lines = [
            line for line in self._said.read(1 << 16).decode(errors="replace").splitlines() if line.strip()
        ]
        if not lines:
            return lost
        # Native code says why before it shows where, Python behind it.
        return Lost(f"{lost}: {one_line(lines[0 if lost.stopped_by else -1], 100)}", lost.stopped_by)

    def close(self) -> None:
        """End the process, if there is one; the next question starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
            self._said.close()

    def _forget(self) -> None:
        # In a fork: the process, and whoever holds the lock, are the other's.
        if self._process is not None:
            self._process.forget()
        self._lock, self._process = threading.Lock(), None


def _copied(descriptor: int, n_bytes: int) -> memoryview:
    """The bytes of a file: a map of it would keep a descriptor for as long as any of them is wanted."""
    room = memoryview(mmap.mmap(-1, n_bytes))
    n_read = 0
    while n_read < n_bytes:
        n = os.preadv(descriptor, [room[n_read:]], n_read)
        if not n:
            raise EOFError
        n_read += n
    return room.toreadonly()


def serve() -> None:
    """What the process does: answer, one question after another, until nobody can ask any more."""
    connection, _ = answering()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ready(connection)
    answer = _Answer()
    while True:
        try:
            function, args, kwargs = connection.recv()
        except EOFError:
            return
        limit_memory(_ROOM_BYTES)
        _limit_cpu(MOST_CPU_S)
        answer.begin()
        succeeded: bool | None
        try:
            succeeded, value = True, function(answer, *args, **kwargs)
            answer.end()
        except Exception as error:
            succeeded, value = False, error
        if answer.fault is not None:  # whatever the function made of it
            succeeded, value = None, one_line(answer.fault)
        n_bytes, small = answer.given() if succeeded else (0, b"")
        connection.send((succeeded, value, n_bytes, small))
        if n_bytes > _SMALL_BYTES:
            send_handle(connection, answer.descriptor, None)


class _Answer(io.RawIOBase):
    """What a function writes: in memory while it is little, then in a file.

    Attributes:
        fault: why the file could not be written; None as long as it could.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self.begin()

    def begin(self) -> None:
        """Forget what was written."""
        self.fault: OSError | None = None
        self._small, self._n_bytes = bytearray(), 0
        if self._file is not None:
            # The asker has taken over the bytes of before; room that is there already costs no time.
            if os.fstat(self.descriptor).st_size > _KEPT_BYTES:
                self._file.truncate(0)
            self._file.seek(0)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """All of it.

        Raises:
            OSError: there is no room.
        """
        view = memoryview(data).cast("B")
        self._n_bytes += len(view)
        if self._n_bytes <= _SMALL_BYTES:
            self._small += view
            return len(view)
        with self._noting():
            if self._file is None:
                self._file = _nameless()
            self._file.write(self._small)
            self._small.clear()
            self._file.write(view)
        return len(view)

    def end(self) -> None:
        """Nothing is written any more.

        Raises:
            OSError: there is no room.
        """
        if self._file is not None and self._n_bytes > _SMALL_BYTES:
            with self._noting():
                self._file.flush()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.fault = error
            raise

    def given(self) -> tuple[int, bytes]:
        """How many bytes were written, and these where they are few."""
        return self._n_bytes, bytes(self._small)

    @property
    def descriptor(self) -> int:
        """Of the file."""
        if self._file is None:
            raise ValueError("nothing was written into a file")
        return self._file.fileno()


def limit_memory(n_bytes: int) -> None:
    """In the process: let it take so much, or 1 GiB, beside what it has now; Linux alone keeps to that."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, now + max(_ROOM_BYTES, n_bytes))


def _limit_cpu(most_s: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + most_s)


def _limit(what: int, n: int) -> None:
    _, most = resource.getrlimit(what)
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (n if most == resource.RLIM_INFINITY else min(n, most), most))


def _nameless() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("featurestore-answer"), "w+b")
    return tempfile.TemporaryFile()
