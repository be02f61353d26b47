"""A process that is kept to be asked: its answers, its limits, and what is lost with it."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from featurestore.apart import kept_process
from featurestore.apart.kept_process import KeptProcess
from featurestore.apart.socket_process import Lost
from featurestore.errors import ConfigError

_asked: list[str] = []


@pytest.fixture
def process() -> Iterator[KeptProcess]:
    kept = KeptProcess(OF_THE_PROCESS="yes")
    yield kept
    kept.close()


def write(to: BinaryIO, data: bytes) -> tuple[int, str]:
    print("what is printed is no part of the answer")
    to.write(data)
    return os.getpid(), os.environ.get("OF_THE_PROCESS", "")


def refuse(to: BinaryIO, what: str) -> None:
    to.write(b"begun")
    raise ConfigError(f"expected nothing, got {what}")


def end(to: BinaryIO, by: int, says: str) -> None:
    print("a note from before", says, sep="\n", file=sys.stderr, flush=True)
    os.kill(os.getpid(), by)


def warn(to: BinaryIO) -> None:
    print("an earlier note", file=sys.stderr, flush=True)


def end_unless_first(to: BinaryIO) -> int:
    if _asked:
        os.abort()
    return os.getpid()


def note(to: BinaryIO) -> int:
    _asked.append("something")
    return os.getpid()


def take(to: BinaryIO, n_bytes: int, room_bytes: int) -> int:
    kept_process.limit_memory(room_bytes)
    return len(bytes(n_bytes))


def fill(to: BinaryIO, n_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        to.write(bytes(n_bytes))
    except OSError as error:  # as whoever decodes a file might say of it
        raise ValueError("no table") from error


def spin(to: BinaryIO) -> None:
    kept_process._limit_cpu(1)
    while True:
        pass


def test_answers_come_from_one_process(process: KeptProcess) -> None:
    data = os.urandom(3_000_000)
    (first, value), written = process.ask(write, data)
    assert written == data
    assert written.readonly
    assert first != os.getpid()
    assert value == "yes"
    (second, _), nothing = process.ask(write, b"")
    assert (second, bytes(nothing)) == (first, b"")


def test_what_it_raises_is_raised_here(process: KeptProcess) -> None:
    (before, _), _ = process.ask(write, b"")
    with pytest.raises(ConfigError, match="expected nothing, got much"):
        process.ask(refuse, "much")
    (after, _), written = process.ask(write, b"next")
    assert (after, bytes(written)) == (before, b"next")


@pytest.mark.parametrize("by", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_a_process_that_is_lost_says_by_what_and_the_next_one_answers(
    process: KeptProcess, by: signal.Signals
) -> None:
    process.ask(warn)
    with pytest.raises(Lost, match=rf"^{by.name}: a note from before$") as lost:
        process.ask(end, by, "and where")
    assert lost.value.stopped_by == by
    assert bytes(process.ask(write, b"next")[1]) == b"next"


def test_what_an_earlier_answer_left_behind_is_no_fault_of_the_next(process: KeptProcess) -> None:
    """As where a damaged file has spoilt the heap, and an intact one is read after it."""
    first, _ = process.ask(note)
    second, _ = process.ask(end_unless_first)
    assert second != first


def test_one_that_died_meanwhile_is_started_anew(process: KeptProcess) -> None:
    (first, _), _ = process.ask(write, b"")
    os.kill(first, signal.SIGKILL)
    (second, _), written = process.ask(write, b"here")
    assert second != first
    assert bytes(written) == b"here"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_it_takes_no_more_memory_than_it_may(process: KeptProcess) -> None:
    with pytest.raises(MemoryError):
        process.ask(take, 2 << 30, 0)
    assert process.ask(take, 2 << 30, 3 << 30)[0] == 2 << 30
    with pytest.raises(MemoryError):  # what one was allowed the next is not
        process.ask(take, 2 << 30, 0)


def test_where_files_may_not_grow_little_is_answered_and_much_is_nobodys_fault(process: KeptProcess) -> None:
    assert bytes(process.ask(fill, 1 << 20)[1]) == bytes(1 << 20)
    with pytest.raises(Lost, match=r"an answer that could not be written .*File too large") as lost:
        process.ask(fill, (1 << 20) + 1)
    assert lost.value.is_passing
    assert bytes(process.ask(write, bytes(3 << 20))[1]) == bytes(3 << 20)
    assert bytes(process.ask(write, b"little again")[1]) == b"little again"


def test_it_does_not_compute_for_ever(process: KeptProcess) -> None:
    with pytest.raises(Lost, match="SIGXCPU"):
        process.ask(spin)


def test_it_is_not_waited_for_for_ever(process: KeptProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    process.ask(write, b"")
    monkeypatch.setattr(kept_process, "MOST_S", 0.2)
    with pytest.raises(Lost, match=r"no answer within 0\.2 s") as lost:
        process.ask(spin)
    assert lost.value.stopped_by == signal.SIGKILL


def test_threads_have_their_own_answers(process: KeptProcess) -> None:
    found: dict[int, bytes] = {}

    def ask(i: int) -> None:
        for n in range(20):
            found[100 * i + n] = bytes(process.ask(write, b"%d" % (100 * i + n))[1])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {100 * i + n: b"%d" % (100 * i + n) for i in range(4) for n in range(20)}


def test_a_fork_asks_a_process_of_its_own(process: KeptProcess, tmp_path: Path) -> None:
    (ours, _), _ = process.ask(write, b"")
    child = os.fork()
    if not child:
        (theirs, _), written = process.ask(write, b"of the fork")
        (tmp_path / "said").write_text(f"{theirs != ours} {bytes(written).decode()}")
        process.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "said").read_text() == "True of the fork"
    (again, _), written = process.ask(write, b"ours")
    assert (again, bytes(written)) == (ours, b"ours")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_answers_take_no_descriptors_and_a_closed_process_leaves_none(process: KeptProcess) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (pid, _), _ = process.ask(write, b"x")
    while_open = len(os.listdir("/proc/self/fd"))
    kept = [process.ask(write, b"x" * 100)[1] for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == while_open
    process.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert all(bytes(one) == b"x" * 100 for one in kept)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
