"""Damage to documents: seeded bit flips and changes of structure, and what a reader may make of them."""

from __future__ import annotations

import copy
import random
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from featurestore.errors import UserError

MOST_CPU_S = 5.0
MOST_GROWTH_BYTES = 500_000_000


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


#: What stands in the place of any value.
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, 1e308, -1e308, float("nan"), float("inf"), 10**12, 2**63, -(10**30),
    "", "x", "\0", "\ud800", "a" * 10_000, "../../etc/passwd", "1e5", [], {}, [[]], [None], [0] * 1000,
    {"": 0}, _nested(30), _nested(200), "9" * 5000,
)  # fmt: skip


@dataclass(frozen=True)
class Damaged:
    """A damaged document, and what was done to it."""

    data: bytes
    how: str


def flipped(data: bytes, rng: random.Random, most: int) -> Iterator[Damaged]:
    """One random bit of each byte, of `most` bytes at most; then the file cut short or lengthened."""
    places = range(len(data)) if len(data) <= most else sorted(rng.sample(range(len(data)), most))
    for i in places:
        bit = rng.randrange(8)
        yield Damaged(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :], f"byte {i}, bit {bit}")
    for n in {0, 1, len(data) // 2, len(data) - 1}:
        yield Damaged(data[:n], f"cut to {n} bytes")
    yield Damaged(data + b"\0", "a byte more")


def changed(document: Any, rng: random.Random, n: int, dump: Callable[[Any], str]) -> Iterator[Damaged]:
    """`n` changes of structure: a value replaced, a key deleted or renamed, an item doubled."""
    places = list(_places(document))
    every = [(p, v) for p in places for v in range(len(VALUES) + 3)]
    for path, what in rng.sample(every, min(n, len(every))):
        new = copy.deepcopy(document)
        parent = new
        for step in path[:-1]:
            parent = parent[step]
        last = path[-1]
        if what < len(VALUES):
            parent[last] = VALUES[what]
            how = repr(VALUES[what])[:40]
        elif what == len(VALUES):
            del parent[last]
            how = "deleted"
        elif isinstance(parent, dict):
            parent[f"{last}_"] = parent[last] if what == len(VALUES) + 1 else parent.pop(last)
            how = "doubled" if what == len(VALUES) + 1 else "renamed"
        else:
            parent.append(parent[last])
            how = "doubled"
        yield Damaged(dump(new).encode("utf-8", "surrogatepass"), f"{path}: {how}")


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def require_answer_or_one_line(
    damaged: Iterator[Damaged], read: Callable[[bytes], Any], intact: Any = None
) -> tuple[int, int]:
    """Read every damaged document.

    Each gives an answer (`intact`, unless that is None) or a `UserError` of one line, within 5 s of CPU; all
    of them together take no more than 500 MB. What processes that this one starts take counts too.

    Returns:
        How many were read, and how many refused.
    """
    before = _peak_bytes()
    n_read = n_refused = 0
    wrong: list[str] = []
    for one in damaged:
        started = _cpu_s()
        try:
            found = read(one.data)
            n_read += 1
            if intact is not None and found != intact:
                wrong.append(f"{one.how}: another answer")
        except UserError as error:
            n_refused += 1
            if "\n" in str(error):
                wrong.append(f"{one.how}: several lines: {error}")
        except Exception as error:
            wrong.append(f"{one.how}: {type(error).__name__}: {error}")
        if _cpu_s() - started > MOST_CPU_S:
            wrong.append(f"{one.how}: took {_cpu_s() - started:.1f} s")
    assert not wrong, f"{len(wrong)} of {n_read + n_refused}, such as:\n" + "\n".join(sorted(wrong)[:40])
    assert _peak_bytes() - before < MOST_GROWTH_BYTES
    return n_read, n_refused


def _cpu_s() -> float:
    """Of this process and of those that it has started, whether they still are or not."""
    mine = psutil.Process().cpu_times()
    found = mine.user + mine.system + mine.children_user + mine.children_system
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            found += times.user + times.system
    return found


def _peak_bytes() -> int:
    """The most that this process had at once, and the most that each had that it has started."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for child in psutil.Process().children():
        with suppress(OSError):  # it has ended, or there is no /proc
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            found += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return found
