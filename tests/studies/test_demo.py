"""`fs demo` is a study file, carried out by the code that carries out any other."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from featurestore.corpora import synthetic
from tests.studies.conftest import fs, words_of


@pytest.mark.slow
def test_the_demo_is_a_study_that_can_be_changed_and_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "write_corpus", partial(synthetic.write_corpus, n_clips=120))
    result = fs("demo", "--out", tmp_path / "demo", "--quiet")
    assert result.exit_code == 0, result.output
    said = words_of(result.output)
    assert "logmel is " in said or "logmel and " in said or "and logmel cannot be told apart" in said
    assert said.endswith("the numbers show what the tool does, not what models know of animals.")
    assert "These sounds are synthetic" in said
    layers = pd.read_csv(tmp_path / "demo/report/layers.csv")
    assert set(layers["model"]) == {"logmel", "hubert-tiny-untrained"}
    assert set(layers["label"]) == {"call_type", "caller"}
    study = tmp_path / "demo/study.yaml"
    assert fs("study", "run", study).output.startswith("nothing to do")
    # What somebody changed there is not lost.
    study.write_text(study.read_text().replace("seeds: 3", "seeds: 0"))
    result = fs("demo", "--out", tmp_path / "demo", "--quiet")
    assert result.exit_code == 2
    assert "seeds: expected at least 1, got 0" in result.stderr
    assert "seeds: 0" in study.read_text()
