"""Who is working on which unit, so that many processes share a key without doing units twice.

A claim is an object of the Zarr text array ``claims``, one entry per unit, made only where there is none.
Its owner renews it while it works and removes it when the unit is committed. A claim that is not renewed
for `EXPIRY_S` is dead and may be taken over. Time is measured by the one who waits: it is never compared
with another machine's clock. The claim of a process of this very machine that no longer runs is
dead at once.

Between two that write, claims save work: doing a unit twice is harmless. What is *removed* needs one, since a
shard deleted under the hands of a writer is gone: nothing of a unit is deleted, and no record is committed,
but by who holds its claim and has looked again just before (`Claims.holds`). See "Many writers" in
docs/design.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from featurestore.backends.storage import Storage
from featurestore.errors import StoreError
from featurestore.format import row_arrays
from featurestore.format.decoding import parsed_json
from featurestore.format.row_arrays import CLAIMS_ARRAY
from featurestore.store.plan import Unit

T = TypeVar("T")

# Not a unit: who holds this puts the ledger together (`featurestore.store.row_columns`), or takes records
# out of it.
LEDGER_CLAIM = "ledger"
RENEW_S = 10.0
EXPIRY_S = 60.0
# How long to wait before looking again at units that others hold.
WAIT_S = 0.5
# The ledger is held for as long as it takes to write it.
LEDGER_WAIT_S = 0.05
WAITING = None
# Of a claim, which is some 200.
MOST_CHARACTERS = 2**13
# Tries at a claim that was let go of just when it was looked at.
TRIES = 20


class ClaimLost(Exception):
    """Somebody took the unit over meanwhile, as from a worker that showed no life for too long."""


@dataclass
class Claims:
    """This worker's view of the claims of one key.

    Args:
        storage: the root.
        key: ``model/dataset``.
        clock: seconds, for tests.
    """

    storage: Storage
    key: str
    clock: Callable[[], float] = time.monotonic
    worker: str = field(default_factory=lambda: secrets.token_hex(8))
    # Unit → what was last seen of somebody's claim, and when by this worker's clock.
    _seen: dict[int | str, tuple[bytes, float]] = field(default_factory=dict)
    _held: dict[int | str, int] = field(default_factory=dict)  # unit → renewals
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, unit: int | str) -> bool:
        """Claim a unit (or `LEDGER_CLAIM`); False where somebody alive holds it."""
        name = self._name(unit)
        data = None
        for _ in range(TRIES):
            if self.storage.put(name, self._encode(0), if_absent=True):
                return self._hold(unit)
            data = self.storage.get(name)
            if data is not None:
                break  # else it was let go of in between, and is free for whoever is first
        if data is None or not self._is_dead(unit, data):
            return False
        # Taken over by writing a claim of one's own; of two that do so at once the last one stays, and
        # both read it back.
        self.storage.put(name, self._encode(0))
        current = self.storage.get(name)
        if _claim(current).get("worker") != self.worker:
            self._seen[unit] = (current or b"", self.clock())
            return False
        return self._hold(unit)

    def wait_for(self, unit: int | str, pause_s: float = WAIT_S) -> None:
        """Claim a unit, waiting for whoever holds it to let go or to be dead."""
        while not self.take(unit):
            time.sleep(pause_s)

    def holds(self, unit: int | str) -> bool:
        """Whether the unit is still this worker's: to be asked just before what only its owner may do."""
        return _claim(self.storage.get(self._name(unit))).get("worker") == self.worker

    def persist(self, unit: int, do: Callable[[], T], is_committed: Callable[[], bool]) -> T | None:
        """Do what only the owner of a unit may do, again where the claim was lost meanwhile.

        Args:
            unit: claimed by this worker.
            do: raises `ClaimLost` where it is not its own any more.
            is_committed: whether the unit is done by now.

        Returns:
            What `do` returned; None where somebody else has committed the unit instead.
        """
        while True:
            try:
                return do()
            except ClaimLost:
                self.wait_for(unit)
                if is_committed():
                    return None

    def renew(self) -> None:
        """Show that this worker is alive, for every unit it holds and nobody took over."""
        with self._lock:
            held = list(self._held)
        for unit in held:
            # Writing under the lock: a claim renewed just after its release would come back to life.
            with self._lock:
                if unit not in self._held:
                    continue
                if not self.holds(unit):
                    del self._held[unit]
                    continue
                self._held[unit] += 1
                self.storage.put(self._name(unit), self._encode(self._held[unit]))

    def release(self, unit: int | str) -> None:
        """Give a unit up, committed or not."""
        with self._lock:
            self._held.pop(unit, None)
            if self.holds(unit):
                self.storage.delete(self._name(unit))

    def release_all(self) -> None:
        """Give up every unit still held, as when a run ends early; errors of the store are left to it."""
        with self._lock:
            held = list(self._held)
        # One outage is enough to know: what is not let go expires by itself.
        with contextlib.suppress(StoreError):
            for unit in held:
                self.release(unit)

    def _hold(self, unit: int | str) -> bool:
        with self._lock:
            self._held[unit] = 0
        self._seen.pop(unit, None)
        return True

    def _is_dead(self, unit: int | str, claim: bytes) -> bool:
        if _of_dead_process(claim):
            return True
        seen, at = self._seen.get(unit, (None, 0.0))
        if seen != claim:
            self._seen[unit] = (claim, self.clock())
            return False
        return self.clock() - at > EXPIRY_S

    def _name(self, unit: int | str) -> str:
        return f"{self.key}/{row_arrays.entry_name(CLAIMS_ARRAY, unit)}"

    def _encode(self, beat: int) -> bytes:
        claim = {"worker": self.worker, "host": _machine(), "pid": os.getpid(), "beat": beat}
        return row_arrays.encode_text(json.dumps(claim), compress=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Units of one key that this worker wants done.

    Attributes:
        claims: this worker's.
        units: what there is to do.
        is_committed: whether a unit is done by now.
        on_done_by_others: told of units that somebody else did.
    """

    claims: Claims
    units: Sequence[Unit]
    is_committed: Callable[[Unit], bool]
    on_done_by_others: Callable[[Unit], None] = lambda unit: None


def work_through(works: Sequence[Work]) -> Iterator[tuple[Unit, list[int]] | None]:
    """Units to do, each claimed, until all are committed by somebody.

    Args:
        works: of one key, or of several keys whose units hold the same rows; those come together.

    Yields:
        A unit and the positions of the works that claimed it; the caller commits and releases it for each.
        Or `WAITING`: everything left is held by others and a pause follows, so whatever the caller has
        under way should be finished now, or two workers would wait for each other.
    """
    left: dict[int, tuple[Unit, list[int]]] = {}
    for position, work in enumerate(works):
        for unit in work.units:
            left.setdefault(unit.index, (unit, []))[1].append(position)
    while left:
        busy: dict[int, tuple[Unit, list[int]]] = {}
        for index, (unit, positions) in sorted(left.items()):
            mine = []
            for position in positions:
                work = works[position]
                if not work.claims.take(index):
                    busy.setdefault(index, (unit, []))[1].append(position)
                elif work.is_committed(unit):
                    work.claims.release(index)
                    work.on_done_by_others(unit)
                else:
                    mine.append(position)
            if mine:
                yield unit, mine
        left = {}
        if busy:
            yield WAITING
            time.sleep(WAIT_S)
        for index, (unit, positions) in busy.items():
            for position in positions:
                if works[position].is_committed(unit):
                    works[position].on_done_by_others(unit)
                else:
                    left.setdefault(index, (unit, []))[1].append(position)


@contextlib.contextmanager
def renewing(claims: Claims, every_s: float = RENEW_S) -> Iterator[None]:
    """Renew claims in a thread while a `with` block runs, and give up at its end what is still held."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(every_s):
            # A claim not renewed costs at most a unit done twice; the run itself will meet the error.
            with contextlib.suppress(StoreError):
                claims.renew()

    thread = threading.Thread(target=beat, daemon=True, name="claims")
    thread.start()
    try:
        yield
    finally:
        claims.release_all()
        stop.set()
        thread.join()


def do_units(
    work: Work, do: Callable[[Unit], object], on_unit: Callable[[Unit], None] = lambda unit: None
) -> None:
    """Do the units of one key, each claimed, until all are committed by somebody.

    Args:
        work: what there is to do.
        do: does and commits a unit; see `Claims.persist`.
        on_unit: told of each unit that was claimed, once it is committed.
    """
    with renewing(work.claims):
        for claimed in work_through([work]):
            if claimed is WAITING:
                continue
            unit, _ = claimed
            work.claims.persist(unit.index, partial(do, unit), partial(work.is_committed, unit))
            work.claims.release(unit.index)
            on_unit(unit)


def _machine() -> str:
    """This machine until its next boot: a pid means something within it only."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    # Containers of one machine share the boot id but not their process ids.
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}:{boot}:{namespace}"


@contextlib.contextmanager
def holding(claims: Claims, units: Sequence[int | str], *, pause_s: float = WAIT_S) -> Iterator[None]:
    """Hold units, or `LEDGER_CLAIM`, while a `with` block runs; waits for each.

    Who holds several takes them in this order, and the ledger last: nobody waits in a circle.
    """
    with renewing(claims):
        for unit in sorted(units, key=lambda u: (isinstance(u, str), u)):
            claims.wait_for(unit, pause_s)
        yield


@contextlib.contextmanager
def holding_ledger(storage: Storage, key: str) -> Iterator[Claims]:
    """Be the only one who puts the ledger of a key together or takes records out of it.

    Units are never waited for inside: who holds units may be waiting for this.
    """
    claims = Claims(storage, key)
    with holding(claims, [LEDGER_CLAIM], pause_s=LEDGER_WAIT_S):
        yield claims


def clear_done_claims(storage: Storage, key: str, is_done: Callable[[int], bool]) -> None:
    """Remove claims that nobody needs any more: of the dead, and of units that are done.

    `is_done` says whether a unit is committed for all that anybody may want of it. It is asked after its
    claim was read, since who does a unit again takes its record away before claiming it.
    """
    folder = f"{key}/{CLAIMS_ARRAY}/c"
    for unit in row_arrays.entry_numbers(storage.children(folder)):
        name = f"{folder}/{unit}"
        before = storage.get(name)
        if before is None or not (_of_dead_process(before) or is_done(unit)):
            continue
        if storage.get(name) == before:
            storage.delete(name)


def live_claims(storage: Storage, key: str) -> set[int]:
    """Units of a key with a claim whose owner may be alive: on another machine nobody can tell."""
    folder = f"{key}/{CLAIMS_ARRAY}/c"
    units = row_arrays.entry_numbers(storage.children(folder))
    return {u for u in units if not _of_dead_process(storage.get(f"{folder}/{u}"))}


def _of_dead_process(data: bytes | None) -> bool:
    claim = _claim(data)
    host, pid = claim.get("host"), claim.get("pid")
    # os.kill takes 0 and negative numbers for groups of processes, and C's int alone.
    if not isinstance(host, str) or type(pid) is not int or not 0 < pid < 2**31:
        return True  # not a claim at all
    if host != _machine():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _claim(data: bytes | None) -> dict[str, Any]:
    """What a claim says; nothing where it is none."""
    try:
        text = "" if data is None else row_arrays.decode_text(data, compress=False)
        claim = parsed_json(text) if len(text) <= MOST_CHARACTERS else None
    except ValueError:
        return {}
    return claim if isinstance(claim, dict) else {}
