"""Processes of the stress test: each plays one part on one key until the writers are done.

``python -m tests.featurestore.stress FOLDER N_ROWS``. FOLDER holds ``store``, ``m.csv``, ``stop`` at the end,
and what each part found wrong, a line of JSON each, in ``PART-PID.found``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.audit import AuditConfig, run_audit
from featurestore.backends.storage import open_storage
from featurestore.errors import CorruptData, KeyNotFound, StoreError
from featurestore.manifest.table import Manifest, from_table
from featurestore.store.claims import Claims, Work, renewing, work_through
from featurestore.store.key import read_key
from featurestore.store.key_request import KeyRequest
from featurestore.store.ledger import read_ledger
from featurestore.store.writer import UnitRows, open_key
from featurestore.upkeep.key_copy import copy_key
from featurestore.upkeep.verification import verify_key

MODEL, DATASET = "tiny", "calls"
KEY = f"{MODEL}/{DATASET}"
LAYERS = (0, 1, 2)
N_FEATURES, UNIT_ROWS = 8, 2
N_WRITERS = 3
# Chance that the fourth one is killed within 50 ms.
KILLED = 0.04


def values(layer: int, rows: np.ndarray) -> np.ndarray:
    """What rows of a layer hold, float32 `[n, 2, N_FEATURES]`: known without having been computed."""
    grid = 1000.0 * layer + rows[:, None, None] + np.arange(2 * N_FEATURES).reshape(2, N_FEATURES) / 64
    return grid.astype(np.float32)


def manifest_of(n: int) -> Manifest:
    table = pd.DataFrame(
        {"path": [f"f{i:05d}.wav" for i in range(n)], "kind": [f"k{i % 3}" for i in range(n)]}
    )
    return from_table(table, source="m.csv", base=Path("/audio"), check_files=False)


def extract(url: str, n_rows: int, layers: tuple[int, ...], seed: int) -> None:
    """One run of an extraction as the real one goes: open, claim, write, commit, let go, finish."""
    request = KeyRequest(
        model=MODEL,
        dataset=DATASET,
        fingerprint={"made": "for the stress test"},
        functionals=("mean", "std"),
        layers=layers,
        n_features=N_FEATURES,
        unit_rows=UNIT_ROWS,
    )
    storage, manifest = open_storage(url), manifest_of(n_rows)
    writer, _ = open_key(storage, request, manifest, manifest.table["utterance_id"].to_numpy(object))
    claims = Claims(storage, writer.info.path)
    rng = random.Random(seed)
    work = Work(
        claims=claims,
        units=writer.pending_units(layers),
        is_committed=lambda u: writer.is_committed(u, layers),
    )
    with renewing(claims, every_s=0.2):
        for claimed in work_through([work]):
            if claimed is None:
                continue
            unit, _ = claimed
            rows = np.arange(unit.first_row, unit.stop_row)
            facts = UnitRows(
                status=["ok"] * len(rows),
                n_frames=np.full(len(rows), 15),
                duration_s=np.full(len(rows), 0.3),
                audio_hash=[f"{r:032x}" for r in rows],
            )
            write = partial(
                writer.write_unit,
                unit,
                Layers(rows, layers, rng.random() * 0.02),
                facts,
                audio_s=1.0,
                elapsed_s=0.1,
                versions={},
                is_held=partial(claims.holds, unit.index),
            )
            claims.persist(unit.index, write, partial(writer.is_committed, unit, layers))
            claims.release(unit.index)
    writer.finish()


class Layers:
    """Layers one after the other, as from a long computation; may be gone through more than once."""

    def __init__(self, rows: np.ndarray, layers: tuple[int, ...], pause_s: float) -> None:
        self.rows, self.layers, self.pause_s = rows, layers, pause_s

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        for k in self.layers:
            yield k, values(k, self.rows)
            time.sleep(self.pause_s)


class Part:
    """What goes on beside the writers, again and again; what it finds wrong is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder / "store")
        self.storage = open_storage(self.url)
        self.committed: dict[int, list[int]] = {}
        self.n_copies = 0

    def run(self, name: str) -> None:
        step: Callable[[], None] = getattr(self, name)
        rounds, told = 0, self.folder / f"{name}-{os.getpid()}.found"
        while not (self.folder / "stop").exists():
            try:
                step()
                rounds += 1
            except KeyNotFound:
                time.sleep(0.05)  # not made yet
            except Exception as error:
                if "no feature store here" in str(error):
                    continue
                with told.open("a") as file:
                    file.write(json.dumps(f"{name}: {type(error).__name__}: {error}") + "\n")
        (self.folder / f"{name}-{os.getpid()}.rounds").write_text(str(rounds))

    def repair(self) -> None:
        self._verify(repair=True)

    def verify(self) -> None:
        self._verify(repair=False)

    def _verify(self, *, repair: bool) -> None:
        report = verify_key(self.storage, MODEL, DATASET, repair=repair)
        wrong = [str(f) for f in report.findings if f.is_damage]
        wrong += [line for line in report.repaired if "withdrawn" in line] + report.unrepaired
        if wrong:
            raise AssertionError("; ".join(wrong))

    def ledger(self) -> None:
        """What was committed once is committed ever after, for at least the same layers."""
        read_key(self.storage, MODEL, DATASET)
        now = {u: r.layers for u, r in read_ledger(self.storage, KEY).items()}
        lost = {u: k for u, k in self.committed.items() if not set(k) <= set(now.get(u, ()))}
        self.committed |= now
        if lost:
            raise AssertionError(f"units and layers that were committed are not any more: {lost}")

    def read(self) -> None:
        features = open_store(self.url).features(MODEL, DATASET)
        rows = features.index["row"].to_numpy()
        for k in features.layers:
            try:
                layer = features.layer(k)
            except StoreError as error:
                if isinstance(error, CorruptData) or "is not complete" not in str(error):
                    raise
                continue
            np.testing.assert_array_equal(layer.numpy(), values(k, rows))

    def audit(self) -> None:
        found = run_audit(AuditConfig(manifest=self.folder / "m.csv", store=self.url, layers=(0,), workers=1))
        wrong = [f.text for f in found.findings if f.kind in ("failed-embedding", "coinciding-embeddings")]
        if wrong:
            raise AssertionError("; ".join(wrong))

    def copy(self) -> None:
        """To one place as long as the key keeps its layers, then to another."""
        target = open_storage(self.folder / f"copy-{self.n_copies}")
        try:
            copy_key(self.storage, target, MODEL, DATASET)
        except StoreError as error:
            if "another key" not in str(error):
                raise
            self.n_copies += 1
            return
        report = verify_key(target, MODEL, DATASET)
        wrong = [str(f) for f in report.findings if f.is_damage]
        if wrong:
            raise AssertionError(f"the copy: {wrong}")


PARTS = ("repair", "verify", "ledger", "read", "audit", "copy")


def write(folder: Path, n_rows: int, seed: int) -> None:
    """Extract two layers, then all three: the key is sealed, and opened again by what is added."""
    for layers in (LAYERS[:2], LAYERS):
        extract(str(folder / "store"), n_rows, layers, seed)


def start(do: Callable[[], None]) -> int:
    """Do something in a process of its own; it has imported all that is slow to import."""
    pid = os.fork()
    if pid:
        return pid
    try:
        do()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def is_over(pid: int, codes: dict[int, int]) -> bool:
    if pid not in codes:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            codes[pid] = os.waitstatus_to_exitcode(status)
    return pid in codes


def main(folder: Path, n_rows: int) -> int:
    """Play all parts at once until the writers are done; 0 where every process ended well."""
    codes: dict[int, int] = {}
    others = [start(partial(Part(folder).run, part)) for part in (*PARTS, "repair")]
    writers = [start(partial(write, folder, n_rows, seed)) for seed in range(N_WRITERS)]
    rng, victim, n_kills = random.Random(n_rows), 0, 0
    while not all(is_over(w, codes) for w in writers):
        if not victim or is_over(victim, codes):
            victim = start(partial(write, folder, n_rows, 100 + n_kills))
        time.sleep(0.05)
        if rng.random() < KILLED and not is_over(victim, codes):
            os.kill(victim, signal.SIGKILL)
            n_kills += 1
    if not is_over(victim, codes):
        os.kill(victim, signal.SIGKILL)
    (folder / "stop").touch()
    while not all(is_over(p, codes) for p in others):
        time.sleep(0.05)
    (folder / "kills").write_text(str(n_kills))
    return int(any(codes[p] for p in (*writers, *others)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
