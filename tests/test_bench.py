"""What `make bench` makes of the results that are recorded: its bars, and which of them are met."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench")


def text_of(name: str) -> str:
    return (RESULTS / name).read_text(encoding="utf-8")


def test_bars_are_read_from_recorded_results(bench: ModuleType, tmp_path: Path) -> None:
    training = json.loads(text_of("probe.json"))["training"]
    bars = {b.what: b for b in bench.probe_bars(bench.Found(RESULTS, ""))}
    plain = bars["plain loop, by index, over fused"]
    assert plain.measured == training["plain / fused"]
    assert (plain.wanted, plain.is_met) == (3, training["plain / fused"] >= 3)
    assert f"at least {plain.wanted:g} wanted" in text_of("probe.md")
    bars = {b.what: b for b in bench.store_bars(bench.Found(RESULTS, ""))}
    assert bars["layer of np load, 16,384 rows"].wanted == 1.3
    assert not bars["layer of np load, 16,384 rows"].at_least
    assert bars["npz over layer, 72,920 rows"].at_least
    (seconds, peak) = bench.manifest_bars(bench.Found(tmp_path, text_of("manifest.md")))
    assert (seconds.wanted, peak.wanted) == (30, 2)
    assert re.search(
        rf"split +{seconds.measured:.2f} s +peak +{peak.measured:.2f} GB +within", text_of("manifest.md")
    )
    (share, points) = bench.storage_bars(bench.Found(tmp_path, text_of("storage.md")))
    assert 0.3 < share.measured < share.wanted
    assert points.is_met
    (failed,) = bench.coverage_bars(bench.Found(tmp_path, text_of("coverage.md")))
    assert failed.measured == 0


def test_a_bar_is_met_or_missed(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bars = [
        bench.Bar("a", 2.99, 3, True),
        bench.Bar("b", 0.1, 0.1, False),
        bench.Bar("c", float("nan"), 1, True),
    ]
    assert [bar.is_met for bar in bars] == [False, True, False]
    parts = {"x": {"bars": [vars(b) for b in bars]}, "y": {"bars": [], "error": "exit code 1: no"}}
    assert bench.say(parts) == 3
    assert capsys.readouterr().out.count("MISSED") == 3
    page = bench.table([{"machine": "M, 2 cores; Python", "quick": True, "parts": parts}])
    assert "| x: a | ≥ 3 | **2.99, missed** |" in page
    assert "| x: b | ≤ 0.1 | 0.1 |" in page


def test_readme_has_the_table_of_what_is_recorded(bench: ModuleType) -> None:
    recorded = [json.loads(f.read_text(encoding="utf-8")) for f in sorted(RESULTS.glob("bench-*.json"))]
    readme = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition(
        "<!-- Made by `python benchmarks/bench.py --table`; do not edit it here. -->\n"
    )
    assert recorded
    assert rest.partition("<!-- End of the table. -->")[0] == f"{bench.table(recorded)}\n"
    # Every benchmark that has bars was asked.
    assert {name for found in recorded for name, part in found["parts"].items() if part["bars"]} == {
        *bench.BENCHMARKS
    }


@pytest.mark.slow
def test_the_command_says_by_its_exit_code_what_is_missed(tmp_path: Path) -> None:
    script = str(BENCHMARKS / "bench.py")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, script, "--quick", "--only", "manifest", "--out", str(tmp_path), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    stopped = run("--minutes", "0.01")
    assert stopped.returncode == 1
    assert "manifest" in stopped.stdout
    assert "MISSED" in stopped.stdout
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    (recorded,) = tmp_path.glob("bench-quick-*.json")
    assert str(recorded) in done.stdout
    printed = subprocess.run(
        [sys.executable, script, "--table", str(recorded)], capture_output=True, text=True, check=True
    )
    assert "| manifest: seconds for a manifest of 200,000 rows | ≤ 6 |" in printed.stdout
