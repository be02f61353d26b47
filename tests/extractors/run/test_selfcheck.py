"""After a run, clips alone must give what the store holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from extractors import ExtractConfig, extract
from extractors.run.selfcheck import deviation, tolerance
from featurestore.errors import ConfigError
from tests.extractors.registered import register
from tests.models import save_ssl

Clips = Callable[..., Path]
LAB = "tests.extractors.registered"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_exact_model_passes_at_every_layer(clips: Clips, tmp_path: Path, dtype: str) -> None:
    folder = save_ssl(tmp_path / "tiny", "hubert", "base")
    manifest = clips([5000 + 733 * i for i in range(9)])
    summary = extract(
        ExtractConfig(
            manifest=manifest,
            dataset="d",
            model=str(folder),
            store=str(tmp_path / "s"),
            dtype=dtype,  # type: ignore[arg-type]
            selfcheck=5,
        )
    )
    check = summary.selfcheck
    assert check is not None
    assert (check.n_clips, check.beyond) == (5, None)
    assert sorted(check.deviations) == [0, 1, 2, 3]
    largest = max(check.deviations.values())
    # float16 rounds, and the comparison saw the stored values, not those in memory.
    assert (1e-5 < largest < 5e-4) if dtype == "float16" else largest < 1e-5


def run(manifest: Path, store: Path, *more: str) -> tuple[int, list[str], str]:
    common = ["extract", "--manifest", str(manifest), "--dataset", "d", "--store", str(store), "-q"]
    result = CliRunner().invoke(cli.main, [*common, *more])
    return result.exit_code, result.stderr.strip().splitlines(), result.stdout


def test_a_model_that_lets_clips_see_each_other_is_caught(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path / "site", monkeypatch, careless=f"{LAB}:Careless")
    manifest = clips([6000 + 500 * i for i in range(6)])
    code, errors, out = run(manifest, tmp_path / "s", "--model", "careless", "--name", "careless")
    assert code == 1
    assert len(errors) == 1
    assert "careless/d: the self-check got other values" in errors[0]
    assert "for clip 'clip00" in errors[0]
    assert "at layer 0" in errors[0]
    assert "self-check: " in out
    # One clip a batch is exact for any model, and nothing is checked where nothing is to be.
    alone = ["--model", "careless", "--name", "careless", "--batch-seconds", "0.001", "--overwrite"]
    assert run(manifest, tmp_path / "s", *alone)[0] == 0
    code, errors, out = run(manifest, tmp_path / "off", "--model", "careless", "--selfcheck", "0")
    assert (code, errors) == (0, [])
    assert "self-check" not in out


def test_the_same_clips_are_drawn_again(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000] * 12)
    options = {"manifest": manifest, "dataset": "d", "model": "logmel", "selfcheck": 3}
    first = extract(ExtractConfig(**options, store=str(tmp_path / "a"), unit_rows=4))  # type: ignore[arg-type]
    second = extract(ExtractConfig(**options, store=str(tmp_path / "b")))  # type: ignore[arg-type]
    assert first.selfcheck is not None
    assert first.selfcheck == second.selfcheck
    again = extract(ExtractConfig(**options, store=str(tmp_path / "b")))  # type: ignore[arg-type]
    assert again.selfcheck is None  # nothing was embedded


def test_deviation_is_relative_to_the_largest_value_and_a_missing_value_is_infinite() -> None:
    assert deviation(np.array([1.0, 4.0]), np.array([1.5, 5.0])) == 0.2
    assert deviation(np.array([np.nan, 4.0]), np.array([1.5, 5.0])) == np.inf
    assert tolerance("fp32", "float32", "cpu") == 1e-5
    assert tolerance("fp32", "float32", "cuda:1") == 1e-4
    with pytest.raises(ConfigError, match="--selfcheck: expected 0 or more"):
        ExtractConfig(manifest=Path("m"), dataset="d", model="logmel", store="s", selfcheck=-1)
