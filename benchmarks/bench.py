"""Every benchmark that has a bar, one after the other, and which bars are met.

    python benchmarks/bench.py [--quick] [--only NAMES] [--minutes N] [--out DIR]
    python benchmarks/bench.py --table [FILE …]     # the table of README, of what is recorded; nothing is run

The first is `make bench`, with --quick `make bench-quick`. Results go to DIR as bench-MACHINE.json (of quick
settings: bench-quick-MACHINE.json), named by processor and cores. The exit code is 1 where a bar is missed or
a benchmark did not end. Bars are ratios against a named peer in the same run wherever there is one; what else
ran meanwhile is told by the load at the start. Quick settings are the same code on fewer rows: a bar
that is narrowly missed by them is asked again without --quick.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine import describe

HERE = Path(__file__).parent
QUICK_MINUTES, MINUTES = 15.0, 240.0


@dataclass(frozen=True)
class Bar:
    """What was measured against what is wanted.

    Attributes:
        what: in words.
        measured: the number.
        wanted: the bar.
        at_least: whether more is better.
    """

    what: str
    measured: float
    wanted: float
    at_least: bool

    @property
    def is_met(self) -> bool:
        """Whether it is; a number that is none meets nothing."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def text(self) -> str:
        """``2.70, at least 3 wanted``."""
        return f"{self.measured:.3g}, at {'least' if self.at_least else 'most'} {self.wanted:g} wanted"


@dataclass(frozen=True)
class Found:
    """What a benchmark left: its folder of results, and what it printed."""

    folder: Path
    printed: str

    def json(self, name: str) -> Any:
        """A file of it."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


def extract_bars(found: Found) -> Iterator[Bar]:
    """Rates against a bare forward, the study's loop, batch 1 and fp32; memory."""
    from extract import MOST_MEMORY_GROWTH, NAMES, TARGETS

    parts = found.json("extract.json")
    for name, ratio in parts["speed"]["ratios"].items():
        if ratio is not None:  # of bf16, where the processor only emulates it
            yield Bar(NAMES[name], ratio, TARGETS[name], at_least=True)
    if "memory" in parts:
        few, many = parts["memory"]["peak_mb"].values()
        yield Bar("peak memory, ten times the clips", many / few, 1 + MOST_MEMORY_GROWTH, at_least=False)


def feed_bars(found: Found) -> Iterator[Bar]:
    """Clips a second, of soundfile and soxr alone."""
    from feed import verdicts

    for line in verdicts(found.json("feed.json")["feeds"]):
        what, measured, wanted, _ = (cell.strip() for cell in line.strip("| ").split("|"))
        yield Bar(f"rate of {what}", float(measured), float(wanted), at_least=True)


def store_bars(found: Found) -> Iterator[Bar]:
    """Reading and writing, against np.load, h5py and the study's npz."""
    from store import WANTED

    recorded = found.json("store.json")
    for rows, ratios in recorded["sizes"].items():
        for name, wanted in WANTED.items():
            sign, _, number = wanted.partition(" ")
            if name in ratios and number:
                what = f"{name.replace('_', ' ')}, {int(rows):,} rows"
                yield Bar(what, ratios[name], float(number), at_least=sign == ">=")
    yield Bar(
        "seconds of fs ls", recorded["fs_ls_seconds"], float(WANTED["fs_ls_seconds"][2:]), at_least=False
    )


def storage_bars(found: Found) -> Iterator[Bar]:
    """What docs/store.md says of ten mantissa bits: under half of the bytes, with the same answers."""
    row = re.search(r"^\| bitround10 \|(.*)\|$", found.printed, re.MULTILINE)
    if row is None:
        raise ValueError("no row of bitround10")
    cells = [cell.strip() for cell in row[1].split("|")]
    yield Bar("bytes with ten mantissa bits, of plain ones", float(cells[0]), 0.5, at_least=False)
    points = abs(float(cells[5].split()[0]))
    yield Bar("points of UAR that ten mantissa bits change", points, 0.5, at_least=False)


def probe_bars(found: Found) -> Iterator[Bar]:
    """Fused training against plain loops and the machine's matrix product."""
    from probe import WANTED

    training = found.json("probe.json")["training"]
    wanted = {name: float(text.split()[2]) for name, text in WANTED.items()}
    yield Bar("plain loop, by index, over fused", training["plain / fused"], wanted["plain"], at_least=True)
    yield Bar(
        "plain loop, DataLoader, over fused", training["loader / fused"], wanted["plain"], at_least=True
    )
    yield Bar("scikit-learn over fused", training["sklearn / fused"], wanted["sklearn"], at_least=True)
    rate = training["fused rate / matrix rate"]
    yield Bar("rate of fused training, of a matrix product's", rate, wanted["rate"], at_least=True)


def study_bars(found: Found) -> Iterator[Bar]:
    """A study of 13 layers the paper's way and ours."""
    from probe import WANTED

    wanted = float(WANTED["study"].split()[2])
    yield Bar(
        "hours of a study, the paper's over ours",
        found.json("probe.json")["study"]["paper / ours"],
        wanted,
        True,
    )


def coverage_bars(found: Found) -> Iterator[Bar]:
    """Settings in which intervals cover too seldom."""
    failed = [int(n) for n in re.findall(r"wider than they need be, (\d+) fail", found.printed)]
    if not failed:
        raise ValueError("no summary of settings")
    yield Bar("settings whose intervals cover too seldom", sum(failed), 0, at_least=False)


def manifest_bars(found: Found) -> Iterator[Bar]:
    """Reading, planning and splitting: a time, in proportion to the rows, and a memory."""
    rows = re.search(r"^([\d,]+) rows, ", found.printed, re.MULTILINE)
    measured = r"split\s+([\d.]+) s\s+peak\s+([\d.]+) GB\s+(?:within|beyond) ([\d.]+) s and ([\d.]+) GB"
    line = re.search(rf"^all, with the slowest {measured}", found.printed, re.MULTILINE)
    if rows is None or line is None:
        raise ValueError("no line of all")
    n = int(rows[1].replace(",", ""))
    seconds, peak_gb, most_s, most_gb = map(float, line.groups())
    yield Bar(f"seconds for a manifest of {n:,} rows", seconds, most_s * n / 1_000_000, at_least=False)
    yield Bar("GB at the peak of it", peak_gb, most_gb, at_least=False)


@dataclass(frozen=True)
class Benchmark:
    """One script, as it is called, and what its results are held to.

    Attributes:
        script: its name.
        bars: reads its results.
        quick, full: arguments; ``OUT`` stands for a folder.
    """

    script: str
    bars: Callable[[Found], Iterator[Bar]]
    quick: str
    full: str


BENCHMARKS = {
    "extract": Benchmark(
        "extract", extract_bars, "--clips 96 --repeats 1 --parts speed --out OUT", "--out OUT"
    ),
    "feed": Benchmark(
        "feed", feed_bars, "--clips 1000 --repeats 1 --decoders 1,2 --record --out OUT", "--record --out OUT"
    ),
    "store": Benchmark("store", store_bars, "--rows 16384 --layers 13 --keys 300 --out OUT", "--out OUT"),
    "storage": Benchmark("storage", storage_bars, "--repeats 2", ""),
    "probe": Benchmark("probe", probe_bars, "--parts training --out OUT", "--parts training --out OUT"),
    "study": Benchmark("probe", study_bars, "--parts study --out OUT", "--parts study --out OUT"),
    "coverage": Benchmark("coverage", coverage_bars, "--quick --only crossed", "--only crossed"),
    "manifest": Benchmark("manifest", manifest_bars, "--rows 200000", ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows: a quarter of an hour at most")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="benchmarks to run")
    parser.add_argument(
        "--minutes", type=float, help="most of all of them; default: 15 with --quick, else 240"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--table", nargs="*", type=Path, metavar="FILE", help="print the table of README")
    options = parser.parse_args()
    if options.table is not None:
        files = options.table or sorted(options.out.glob("bench-*.json"))
        if not files:
            parser.error(f"--table: no bench-*.json in {options.out}; make bench writes one")
        print(table([json.loads(f.read_text(encoding="utf-8")) for f in files]))
        return
    names = options.only.split(",")
    if unknown := sorted({*names} - {*BENCHMARKS}):
        parser.error(f"--only: expected {', '.join(BENCHMARKS)}; got {', '.join(unknown)}")
    minutes = options.minutes or (QUICK_MINUTES if options.quick else MINUTES)
    found = run(names, quick=options.quick, until=time.monotonic() + 60 * minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"bench-{'quick-' if options.quick else ''}{machine_name()}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"parts": {}}
    found["parts"] = {**kept["parts"], **found["parts"]}  # those that were not run now stay as they were
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    missed = say({name: found["parts"][name] for name in names})
    print(f"\nrecorded in {path}; {missed} missed" if missed else f"\nrecorded in {path}; every bar is met")
    sys.exit(1 if missed else 0)


def run(names: Sequence[str], *, quick: bool, until: float) -> dict[str, Any]:
    """All of them, each with what is left of the time."""
    found: dict[str, Any] = {"machine": describe("torch", "scikit-learn"), "quick": quick, "parts": {}}
    for name in names:
        load, start = os.getloadavg()[0], time.monotonic()
        part = measured(BENCHMARKS[name], quick=quick, most_s=until - start)
        seconds = round(time.monotonic() - start, 1)
        found["parts"][name] = {"seconds": seconds, "load_before": round(load, 1), **part}
        print(f"{name}: {seconds:.0f} s, {part.get('error', 'done')}", file=sys.stderr, flush=True)
    return found


def measured(benchmark: Benchmark, *, quick: bool, most_s: float) -> dict[str, Any]:
    """Bars of one run, or why there are none."""
    if most_s <= 0:
        return {"bars": [], "error": "no time was left"}
    with tempfile.TemporaryDirectory() as folder:
        words = (benchmark.quick if quick else benchmark.full).replace("OUT", folder).split()
        command = [sys.executable, str(HERE / f"{benchmark.script}.py"), *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=most_s, cwd=HERE.parent, check=False
            )
        except subprocess.TimeoutExpired:
            return {"bars": [], "error": f"did not end in {most_s / 60:.1f} minutes"}
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["said nothing"])[-1]
            return {"bars": [], "error": f"exit code {done.returncode}: {last}"}
        try:
            return {"bars": [asdict(bar) for bar in benchmark.bars(Found(Path(folder), done.stdout))]}
        except (OSError, KeyError, ValueError, IndexError) as error:
            return {"bars": [], "error": f"its results cannot be read: {type(error).__name__}: {error}"}


def machine_name() -> str:
    """Processor and cores, as a file's name; no host."""
    processor = describe().split(": ", 1)[1].split(", ")[0]
    return re.sub(r"[^a-z0-9]+", "-", f"{processor} {os.cpu_count()} cores".lower()).strip("-")


def say(parts: dict[str, Any]) -> int:
    """Print every bar; how many are missed, a benchmark without any counting as one."""
    missed = 0
    for name, part in parts.items():
        for bar in (Bar(**fields) for fields in part["bars"]):
            missed += not bar.is_met
            print(f"{name:9} {bar.what:52} {bar.text():34} {'ok' if bar.is_met else 'MISSED'}")
        if "error" in part:
            missed += 1
            print(f"{name:9} {part['error']}: MISSED")
    return missed


def table(recorded: Sequence[dict[str, Any]]) -> str:
    """The table of README: a row for each bar, a column for each machine."""
    rows: dict[tuple[str, str], dict[int, Bar]] = {}
    for i, found in enumerate(recorded):
        for name, part in found["parts"].items():
            for bar in (Bar(**fields) for fields in part["bars"]):
                rows.setdefault((name, bar.what), {})[i] = bar
    heads = [f"{f['machine'].split('; ')[0]}{' (quick)' if f['quick'] else ''}" for f in recorded]
    lines = [f"| | wanted | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for (name, what), by_machine in rows.items():
        bar = next(iter(by_machine.values()))
        cells = [_cell(by_machine.get(i)) for i in range(len(recorded))]
        sign = "≥" if bar.at_least else "≤"
        lines.append(f"| {name}: {what} | {sign} {bar.wanted:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(bar: Bar | None) -> str:
    if bar is None:
        return ""
    return f"{bar.measured:.3g}" if bar.is_met else f"**{bar.measured:.3g}, missed**"


if __name__ == "__main__":
    main()
