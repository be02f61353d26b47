"""Probings are planned before anything is embedded: mistakes in labels show at once, and fits are counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from probes.results.results_folder import CURVE_NAME, read_refits, read_results
from tests.models import N_LAYERS, save_ssl
from tests.studies.conftest import STUDY, fs, words_of

PROBINGS = """\
  curve:
    models: [tiny]
    labels: [kind, caller]
    classifiers: [centroid]
    split: group
    groups: [path]
    layers: 0-1
    combine: [each, concat]
    curves: [rows]
    curve_shares: [50]
    curve_draws: 2
    refit: train+val
"""


@pytest.mark.slow
def test_fits_counted_beforehand_are_those_that_are_made(study: Callable[..., Path], tmp_path: Path) -> None:
    save_ssl(tmp_path / "tiny", "hubert", "base")
    text = STUDY.replace("  mfcc: {model: mfcc}", "  tiny: {model: tiny}") + PROBINGS
    file = study(text, n_clips=36)
    said = words_of(fs("study", "run", file, "--dry-run").output)
    counted = {
        name: int(re.search(rf"{name} 0 0 unknown until measured (\d+) fits on ", said)[1])  # type: ignore[index]
        for name in ("main", "curve")
    }
    for half in ("extract", "probe"):
        assert fs("study", half, file, "--quiet").exit_code == 0
    results = read_results(tmp_path / "results")
    main = results[results["split"] == "kfold:3"]
    assert counted["main"] == len(main) == 2 * 3 * (1 + N_LAYERS)
    curve = results[results["split"] != "kfold:3"]
    n_curve = len(pd.read_parquet(tmp_path / "results" / CURVE_NAME))
    refits = read_refits(tmp_path / "results")
    assert (set(refits["refit"]), set(refits["split"])) == ({"train+val"}, set(curve["split"]))
    n_refits = len(refits)
    assert n_refits == 2 * 2  # of two labels the answer of the single layers and the one of both
    assert counted["curve"] == len(curve) + n_curve + n_refits == 2 * 3 * (1 + 2 + 1) + 4
    said = words_of(fs("study", "run", file, "--dry-run").output)
    assert f"main {counted['main']} 0" in said
    assert f"curve {counted['curve']} 0" in said
    # Refits alone are lost: they are what is left, and what is made again.
    lost = [p for p in (tmp_path / "results/_tasks").iterdir() if "refit_of" in pd.read_parquet(p)]
    assert len(lost) > 0
    for path in lost:
        path.unlink()
    said = words_of(fs("study", "run", file, "--dry-run").output)
    assert f"curve {counted['curve'] - n_refits} {n_refits}" in said
    assert fs("study", "probe", file, "--quiet").exit_code == 0
    assert set(read_refits(tmp_path / "results")["fingerprint"]) == set(refits["fingerprint"])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("split: kfold:3", "split: column", "split"),
        ("split: kfold:3", "split: group", "group"),
        ("split: kfold:3", "split: group\n    groups: [kind]", "kind"),
        ("[centroid, lda]", "[attention]", "does not keep; add frames: true to extract"),
        ("split: kfold:3", "combine: [concat]", "expected at least two layers"),
    ],
)
def test_what_labels_do_not_allow_is_told_before_anything_is_embedded(
    study: Callable[..., Path], tmp_path: Path, before: str, after: str, said: str
) -> None:
    file = study(STUDY.replace(before, after), n_clips=12)
    for more in ([], ["--dry-run"]):
        result = fs("study", "run", file, "--quiet", *more)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {file}:1")
        assert "probings.main" in line
        assert said in line
        assert not (tmp_path / "features.zarr").exists()
