"""The scale benchmark counts what there is, its model is a line, and its page is made of what is recorded."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scale")


@pytest.fixture
def model(scale: ModuleType) -> ModuleType:
    return importlib.import_module("scale_model")


def test_a_written_key_is_counted_as_it_is_on_disk(scale: ModuleType, tmp_path: Path) -> None:
    written = scale.write(str(tmp_path / "s"), 2100)
    found = scale.read(str(tmp_path / "s"), 2100)
    files = [p for p in (tmp_path / "s").rglob("*") if p.is_file()]
    assert found["objects"] == len(files)
    size = sum(p.stat().st_size for p in files)
    assert found["bytes_beyond_values"] == size - 2100 * scale.N_LAYERS * scale.N_FEATURES * 4
    n_units = 3
    assert found["graph_tasks"] == n_units
    # Two layers and a record each; the claims are not taken by whoever writes alone.
    assert written["units_PUT"] == n_units * (scale.N_LAYERS + 1)
    assert found["layer_GET"] == n_units
    assert found["open_LIST"] == 2  # records of units, and those that are sealed


def test_the_model_is_a_line_and_what_is_none_is_said(scale: ModuleType, model: ModuleType) -> None:
    start, slope = model.line([10, 20, 70], [5 + 3 * n for n in (10, 20, 70)])
    assert (start, slope) == (pytest.approx(5), pytest.approx(3))
    sizes = [10, 100, 1000]
    by_size = {str(n): {"good_s": 1 + 0.01 * n, "bad_s": 1e-4 * n**2, "short_s": 1e-8 * n**2} for n in sizes}
    found = {name: (predicted, value) for name, _, predicted, value in model.predictions(by_size)}
    assert found["good_s"][0] == pytest.approx(found["good_s"][1])
    recorded = {"machine": "m", "stores": {"folder": {"rows": by_size, "keys": {}}}, "probes": {}}
    recorded["stores"]["folder"]["keys"] = {"1": {}}
    recorded["probes"] = {"1": {}}
    assert scale.show(recorded) == ["folder, rows: bad_s"]


def test_a_projection_is_what_one_counts_by_hand(model: ModuleType) -> None:
    recorded = json.loads((BENCHMARKS / "results" / "scale.json").read_text())
    texts = "utterances=4096 rows_per_key=2048 models=3 layers=5 features=10"
    a = model.Assumptions.parse(texts.split())
    p = model.projection(model.Model(recorded, "folder"), a)
    assert p["keys"] == 6
    layer_objects = 6 * 5 * 2
    # Documents of a key and of its arrays, columns, manifest, sealed records: as docs/store.md counts them.
    assert layer_objects + 6 * 20 <= p["objects"] <= layer_objects + 6 * 40
    values = 4096 * 3 * 5 * 2 * 10 * 4
    assert values < p["bytes"] < values + 4096 * 3 * 1000 + 6 * 200_000
    assert p["gpu_hours"] == pytest.approx(4096 * 3 / 500 / 3600)
    with pytest.raises(SystemExit, match="expected NAME=NUMBER"):
        model.Assumptions.parse(["utterances=many"])


def test_the_page_is_made_of_what_is_recorded(model: ModuleType) -> None:
    recorded = json.loads((BENCHMARKS / "results" / "scale.json").read_text())
    made = model.page(recorded, model.Assumptions())
    assert made == (ROOT / "docs" / "scaling.md").read_text(), "python benchmarks/scale.py --page"
