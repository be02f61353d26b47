"""The cost model of `scale.py`: straight lines through what was measured, and what they say of more.

Everything that a store does row by row or unit by unit grows in a straight line; what is done once is the
line's start. `predictions` puts that to the test on a size that the lines have not seen.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.backends.remote import MAX_PUT_BYTES
from featurestore.store.key import MOST_ROWS, MOST_UNITS

TEMPLATE = Path(__file__).with_name("scale_page.md")
# Seconds below it are not judged; shares within which a prediction holds; requests that are as good as none.
LEAST_S, WITHIN, FEW_REQUESTS = 0.2, 0.2, 10
HOUR_S, GB, TB = 3600, 1e9, 1e12


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What is not measured here; each is an argument, ``--assume NAME=VALUE``."""

    utterances: float = 1e8
    models: float = 50
    layers: float = 25
    functionals: float = 2
    features: float = 1024
    bytes_per_value: float = 4
    clip_s: float = 1.0
    rows_per_key: float = 2e6
    memory_gb: float = 16
    gpu_times_real_time: float = 500
    probes: float = 1e5
    probe_rows: float = 1e6
    probe_epochs: float = 30
    gflops_per_core: float = 50
    gpu_hour_usd: float = 2.0
    cpu_hour_usd: float = 0.05
    gb_month_usd: float = 0.023
    months: float = 12
    put_usd_per_million: float = 5.0
    get_usd_per_million: float = 0.4

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Assumptions:
        """``NAME=VALUE`` texts over the defaults."""
        known = {f.name for f in fields(cls)}
        given: dict[str, float] = {}
        for text in texts:
            name, _, value = text.partition("=")
            try:
                given[name] = float(value)
            except ValueError:
                sys.exit(f"--assume {text}: expected NAME=NUMBER")
            if name not in known or not given[name] > 0:
                sys.exit(f"--assume {text}: expected a number above 0 of {', '.join(sorted(known))}")
        return cls(**given)


SAID = {
    "utterances": "clips in all",
    "models": "models",
    "layers": "hidden states kept of each",
    "functionals": "statistics over frames",
    "features": "numbers a statistic",
    "bytes_per_value": "float32; 2 with `--codec half`",
    "clip_s": "seconds of audio a clip",
    "rows_per_key": "clips in one data set of the store; more are cut into several",
    "memory_gb": "GB of memory of a worker that reads",
    "gpu_times_real_time": "seconds of audio in a second of a GPU: of a large model, a third of what NVIDIA "
    "publishes of wav2vec 2.0 base on an A100 (1,550 to 1,780)",
    "probes": "probes (models × layers × labels × seeds × settings)",
    "probe_rows": "rows that a probe is trained on, a sample of all",
    "probe_epochs": "epochs",
    "gflops_per_core": "billions of operations a second and core, of fused training",
    "gpu_hour_usd": "USD",
    "cpu_hour_usd": "USD",
    "gb_month_usd": "USD",
    "months": "months that it is kept",
    "put_usd_per_million": "USD, also of LIST",
    "get_usd_per_million": "USD",
}


def line(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Start and slope, neither below 0, of the straight line that is nearest in relative terms."""
    from scipy.optimize import nnls

    y = np.maximum(np.asarray(values, dtype=np.float64), 1e-9)
    x = np.asarray(sizes, dtype=np.float64)
    scale = x.max()
    (start, slope), _ = nnls(np.stack([1 / y, x / scale / y], axis=1), np.ones(len(y)))
    return float(start), float(slope / scale)


def predictions(by_size: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, int, float, float]]:
    """Quantity, held-out size (the largest), its prediction from the smaller ones, its measurement."""
    *fitted, held_out = sorted(map(int, by_size))
    if len(fitted) < 2:
        return
    for name, value in by_size[str(held_out)].items():
        start, slope = line(fitted, [by_size[str(n)][name] for n in fitted])
        yield name, held_out, start + slope * held_out, value


class Model:
    """Lines through all sizes of one kind of store."""

    def __init__(self, found: Mapping[str, Any], kind: str) -> None:
        self.found = found
        self.sizes = found["stores"][kind]
        self.wide: Mapping[str, float] = self.sizes["wide"]
        self.unit_rows = int(found["unit_rows"])
        self.measured_layers = int(found["layers"])

    def at(self, name: str, n: float, what: str = "rows") -> float:
        """The quantity at `n` rows (keys, probes)."""
        by_size = self.found["probes"] if what == "probes" else self.sizes[what]
        start, slope = line([*map(int, by_size)], [s[name] for s in by_size.values()])
        return start + slope * n

    def reaches(self, name: str, most: float) -> float:
        """Rows at which the quantity is `most`."""
        by_size = self.sizes["rows"]
        start, slope = line([*map(int, by_size)], [s[name] for s in by_size.values()])
        return math.inf if slope == 0 else max(0.0, (most - start) / slope)


def projection(model: Model, a: Assumptions) -> dict[str, float]:
    """What a study of these sizes takes, by name."""
    keys_per_model = math.ceil(a.utterances / a.rows_per_key)
    rows = a.utterances / keys_per_model
    units, keys = math.ceil(rows / model.unit_rows), keys_per_model * a.models
    more = a.layers - model.measured_layers
    largest = max(map(int, model.sizes["rows"]))
    measured = model.sizes["rows"][str(largest)]
    beside = measured["objects"] - model.measured_layers * math.ceil(largest / model.unit_rows) + more
    values = a.utterances * a.models * a.layers * a.functionals * a.features * a.bytes_per_value
    per_key_s = sum(
        model.at(n, rows) for n in ("validate_s", "order_s", "open_key_s", "units_cpu_s", "seal_s")
    )
    puts = sum(model.at(f"{part}_PUT", rows) for part in ("plan", "units", "seal")) + more * (units + 1)
    gets = sum(model.at(f"{part}_GET", rows) for part in ("plan", "units", "seal"))
    lists = sum(model.at(f"{part}_LIST", rows) for part in ("plan", "units", "seal"))
    widths = [a.functionals * a.features, 128, 64, 32]
    weights = sum(x * y for x, y in pairwise(widths))
    out = {
        "keys": keys,
        "gpu_hours": a.utterances * a.clip_s * a.models / a.gpu_times_real_time / HOUR_S,
        "bytes": values + keys * model.at("bytes_beyond_values", rows),
        "objects": keys * (a.layers * units + beside),
        "puts": keys * (puts + lists),
        "gets": keys * gets,
        "cpu_hours": (keys * per_key_s + values / GB * model.wide["write_cpu_s_per_gb"]) / HOUR_S,
        "probe_cpu_hours": a.probes
        * a.probe_rows
        * a.probe_epochs
        * 6
        * weights
        / (a.gflops_per_core * 1e9)
        / HOUR_S,
        "results_bytes": model.at("result_bytes", a.probes, "probes"),
        "layer_gets": keys_per_model * (model.at("open_GET", rows) + model.at("layer_GET", rows)),
        "layer_bytes": values / a.models / a.layers,
        "list_keys_s": model.at("list_keys_s", keys, "keys"),
        "open_peak_bytes": model.at("read_peak_bytes", rows),
        "open_s": model.at("ledger_s", rows) + model.at("index_s", rows),
    }
    out["layer_read_hours"] = out["layer_bytes"] / GB * model.wide["read_s_per_gb"] / HOUR_S
    money = {
        "usd_gpu": out["gpu_hours"] * a.gpu_hour_usd,
        "usd_cpu": (out["cpu_hours"] + out["probe_cpu_hours"]) * a.cpu_hour_usd,
        "usd_storage": out["bytes"] / GB * a.gb_month_usd * a.months,
        "usd_requests": out["puts"] / 1e6 * a.put_usd_per_million + out["gets"] / 1e6 * a.get_usd_per_million,
    }
    return {**out, **money, "usd": sum(money.values())}


def limits(model: Model, a: Assumptions) -> list[tuple[float, str]]:
    """Rows of one key at which something ends, fewest first, with what it is."""
    found = [
        (
            model.reaches("read_peak_bytes", a.memory_gb * GB),
            f"a reader needs {a.memory_gb:g} GB of memory, as the index of a data set is held whole",
        ),
        (
            model.reaches("write_peak_bytes", a.memory_gb * GB),
            f"a writer needs {a.memory_gb:g} GB of memory, as manifest and plan of a data set are held whole",
        ),
        (
            model.reaches("manifest_bytes", MAX_PUT_BYTES),
            f"the manifest, one object, needs more than the {MAX_PUT_BYTES / GB:g} GB of one PUT "
            "(these made rows)",
        ),
        (float(MOST_ROWS), "a key may have no more rows, a bound of readers"),
        (float(MOST_UNITS * model.unit_rows), "a key may have no more units, likewise"),
    ]
    return sorted(found)


def page(found: Mapping[str, Any], a: Assumptions) -> str:
    """``docs/scaling.md``."""
    kind = "s3" if "s3" in found["stores"] else next(iter(found["stores"]))
    model = Model(found, kind)
    p, ends = projection(model, a), limits(model, a)
    first_rows, first = ends[0]
    return TEMPLATE.read_text(encoding="utf-8").format(
        utterances=_count(a.utterances),
        models=_count(a.models),
        layers=_count(a.layers),
        gpu_hours=f"{p['gpu_hours']:,.0f}",
        terabytes=f"{p['bytes'] / TB:,.0f}",
        objects=_count(p["objects"]),
        usd=f"{p['usd']:,.0f}",
        shares=_shares(p),
        first=first,
        first_rows=_count(first_rows),
        keys_per_model=f"{p['keys'] / a.models:,.0f}",
        rows_per_key=_count(a.rows_per_key),
        taken="\n".join(f"| {name} | {text} |" for name, text in _taken(p, a)),
        ends="\n".join(f"| {_count(rows)} | {what} |" for rows, what in ends),
        graph_s=f"{model.at('graph_s', a.rows_per_key):.2f}",
        list_s=f"{model.at('list_s', a.rows_per_key):.1f}",
        layer_gb=f"{p['layer_bytes'] / GB:,.0f}",
        probe_rows=_count(a.probe_rows),
        assumed="\n".join(f"| `{n}` | {_count(v)} | {SAID[n]} |" for n, v in asdict(a).items()),
        machine=found["machine"],
        measured_layers=found["layers"],
        measured_features=found["features"],
        measured="\n".join(_measured(found)),
        verdict=_verdict(found),
    )


def _taken(p: Mapping[str, float], a: Assumptions) -> list[tuple[str, str]]:
    return [
        ("GPU hours", f"{p['gpu_hours']:,.0f}"),
        ("CPU hours beside the GPUs: plan, encoding, checksums, records", f"{p['cpu_hours']:,.0f}"),
        (f"CPU hours of {_count(a.probes)} probes", f"{p['probe_cpu_hours']:,.0f}"),
        ("stored", f"{p['bytes'] / TB:,.1f} TB"),
        ("objects", f"{p['objects']:,.0f}"),
        ("PUT and LIST requests to write it", f"{p['puts']:,.0f}"),
        ("GET requests to write it", f"{p['gets']:,.0f}"),
        ("GET requests to read one layer of one model", f"{p['layer_gets']:,.0f}"),
        ("reading one layer of one model, by one process", f"{p['layer_read_hours']:,.1f} hours"),
        (
            f"opening one data set of {_count(a.rows_per_key)} clips",
            f"{p['open_s']:,.0f} s, {p['open_peak_bytes'] / GB:,.1f} GB",
        ),
        (f"listing all {p['keys']:,.0f} keys (`fs ls`)", f"{p['list_keys_s']:,.1f} s"),
        ("money: GPUs", f"{p['usd_gpu']:,.0f} USD"),
        ("money: CPUs", f"{p['usd_cpu']:,.0f} USD"),
        (f"money: {a.months:g} months of storage", f"{p['usd_storage']:,.0f} USD"),
        ("money: requests", f"{p['usd_requests']:,.0f} USD"),
    ]


def _shares(p: Mapping[str, float]) -> str:
    names = {"usd_storage": "storage", "usd_gpu": "GPUs", "usd_cpu": "CPUs", "usd_requests": "requests"}
    shares = sorted(((p[key] / p["usd"], name) for key, name in names.items()), reverse=True)
    return ", ".join(f"{name} {100 * share:.1f} %" for share, name in shares)


def _measured(found: Mapping[str, Any]) -> list[str]:
    """Rows of the table: what was predicted of the largest size, and what it was."""
    lines = []
    for title, by_size in parts_of(found).items():
        for name, size, predicted, value in predictions(by_size):
            if is_judged(name, value):
                said = "" if is_near(name, predicted, value) else " **beyond 20 %**"
                ratio = f"{predicted / value:.2f}{said}"
                lines.append(
                    f"| {title} | {name} | {size:,} | {_count(predicted)} | {_count(value)} | {ratio} |"
                )
    return lines


def _verdict(found: Mapping[str, Any]) -> str:
    """How many quantities the model tells."""
    judged = [
        is_near(name, predicted, value)
        for by_size in parts_of(found).values()
        for name, _, predicted, value in predictions(by_size)
        if is_judged(name, value)
    ]
    return f"{sum(judged)} of {len(judged)} quantities are predicted within 20 %"


def parts_of(found: Mapping[str, Any]) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Title → size → quantity → value."""
    stores = found["stores"].items()
    parts = {f"{kind}, {what}": sizes[what] for kind, sizes in stores for what in ("rows", "keys")}
    return {**parts, "probes": found["probes"]}


def is_judged(name: str, value: float) -> bool:
    """Whether a quantity is long enough to be predicted: shorter seconds are noise."""
    return value > 0 and not (name.endswith("_s") and value < LEAST_S)


def is_near(name: str, predicted: float, value: float) -> bool:
    """Whether a prediction holds; claims that are renewed by the clock make some requests more or fewer."""
    few = name.endswith(("_GET", "_PUT", "_LIST")) and abs(predicted - value) <= FEW_REQUESTS
    return few or abs(predicted / value - 1) <= WITHIN


def _count(n: float) -> str:
    """A number that can be read: 12, 0.25, 3,400, 2.1 million."""
    if n >= 1e9:
        return f"{n / 1e9:.3g} billion"
    if n >= 1e6:
        return f"{n / 1e6:.3g} million"
    return f"{n:,.0f}" if n >= 100 else f"{n:.3g}"
