"""Who is working on which unit, so that many processes share a key without doing units twice.

A claim is an object of the Zarr text array ``claims``, one entry per unit, made only where there is none.
Its owner renews it while it works and removes it when the unit is committed. A claim that is not renewed
for `EXPIRY_S` is dead and may be taken over. Time is measured by the one who waits: it is never compared
with another machine's clock. The claim of a process of this very machine that no longer runs is
dead at once.

Claims save work and guarantee nothing: doing a unit twice is harmless, since both write the same bytes.
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

from featurestore import columns
from featurestore.errors import StoreError
from featurestore.plan import Unit
from featurestore.storage import Storage

CLAIMS_ARRAY = "claims"
RENEW_S = 10.0
EXPIRY_S = 60.0
# How long to wait before looking again at units that others hold.
WAIT_S = 0.5
WAITING = None


@dataclass
class _Seen:
    """What a waiter last saw of somebody's claim, and when by its own clock."""

    text: str
    at: float


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
    _seen: dict[int, _Seen] = field(default_factory=dict)
    _held: dict[int, int] = field(default_factory=dict)  # unit → renewals
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, unit: int) -> bool:
        """Claim a unit; False where somebody alive holds it."""
        name = self._name(unit)
        if self.storage.put(name, self._encode(0), if_absent=True):
            return self._hold(unit)
        data = self.storage.get(name)
        text = _decode(data)
        if data is not None and not self._is_dead(unit, text):
            return False
        # Taken over by writing a claim of one's own; of two that do so at once the last one stays, and
        # both read it back.
        self.storage.put(name, self._encode(0))
        current = _decode(self.storage.get(name))
        if _owner(current) != self.worker:
            self._seen[unit] = _Seen(current, self.clock())
            return False
        return self._hold(unit)

    def renew(self) -> None:
        """Show that this worker is alive, for every unit it holds."""
        with self._lock:
            held = list(self._held)
        for unit in held:
            # Writing under the lock: a claim renewed just after its release would come back to life.
            with self._lock:
                if unit in self._held:
                    self._held[unit] += 1
                    self.storage.put(self._name(unit), self._encode(self._held[unit]))

    def release(self, unit: int) -> None:
        """Give a unit up, committed or not."""
        with self._lock:
            self._held.pop(unit, None)
            if _owner(_decode(self.storage.get(self._name(unit)))) == self.worker:
                self.storage.delete(self._name(unit))

    def release_all(self) -> None:
        """Give up every unit still held, as when a run ends early; errors of the store are left to it."""
        with self._lock:
            held = list(self._held)
        # One outage is enough to know: what is not let go expires by itself.
        with contextlib.suppress(StoreError):
            for unit in held:
                self.release(unit)

    def _hold(self, unit: int) -> bool:
        with self._lock:
            self._held[unit] = 0
        self._seen.pop(unit, None)
        return True

    def _is_dead(self, unit: int, text: str) -> bool:
        if _of_dead_process(text):
            return True
        seen = self._seen.get(unit)
        if seen is None or seen.text != text:
            self._seen[unit] = _Seen(text, self.clock())
            return False
        return self.clock() - seen.at > EXPIRY_S

    def _name(self, unit: int) -> str:
        return f"{self.key}/{columns.entry_name(CLAIMS_ARRAY, unit)}"

    def _encode(self, beat: int) -> bytes:
        claim = {"worker": self.worker, "host": _machine(), "pid": os.getpid(), "beat": beat}
        return columns.encode_text(json.dumps(claim), compress=False)


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


class Heartbeat:
    """Renews claims in a thread while a `with` block runs."""

    def __init__(self, claims: Claims, every_s: float = RENEW_S) -> None:
        self._claims = claims
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="claims")

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._claims.renew()
            except StoreError:
                # A claim not renewed costs at most a unit done twice; the run itself will meet the error.
                continue


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


def live_claims(storage: Storage, key: str) -> set[int]:
    """Units of a key with a claim whose owner may be alive: on another machine nobody can tell."""
    folder = f"{key}/{CLAIMS_ARRAY}/c"
    units = [int(n) for n in storage.children(folder) if n.isdigit()]
    return {u for u in units if not _of_dead_process(_decode(storage.get(f"{folder}/{u}")))}


def _of_dead_process(text: str) -> bool:
    try:
        claim = json.loads(text)
        host, pid = claim["host"], int(claim["pid"])
    except (ValueError, KeyError, TypeError):
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


def _owner(text: str) -> str | None:
    try:
        return str(json.loads(text)["worker"])
    except (ValueError, KeyError, TypeError):
        return None


def _decode(data: bytes | None) -> str:
    if data is None:
        return ""
    try:
        return columns.decode_text(data, compress=False)
    except (ValueError, UnicodeDecodeError):
        return ""
