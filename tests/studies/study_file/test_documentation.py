"""docs/study.md: its example runs, and its tables are those of the schema."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from studies.study_file.schema_table import schema_tables
from tests.conftest import write_clips
from tests.models import save_aves, save_ssl
from tests.studies.conftest import fs, words_of

PAGE = (Path(__file__).parents[3] / "docs/study.md").read_text("utf-8")


def test_the_tables_are_those_of_the_schema() -> None:
    assert PAGE.endswith(schema_tables())


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example's file, with small copies of what it names."""
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    file = tmp_path / "study.yaml"
    file.write_text(found[1], "utf-8")
    lengths = [5_000 + 60 * i for i in range(36)]
    write_clips(tmp_path / "calls", lengths)
    for i, path in enumerate(sorted(write_clips(tmp_path / "barks", lengths, seed=1).parent.glob("*.wav"))):
        (tmp_path / "barks" / ["alarm", "play"][i % 2]).mkdir(exist_ok=True)
        shutil.move(path, tmp_path / "barks" / ["alarm", "play"][i % 2] / path.name)
    save_ssl(tmp_path / "models/hubert-base-ls960", "hubert", "base")
    save_aves(tmp_path / "models/aves-base-bio")
    return file


def test_the_example_is_sound_and_its_mistakes_are_told_as_the_page_says(example: Path) -> None:
    result = fs("study", "run", example, "--dry-run")
    assert result.exit_code == 0, result.output
    said = words_of(result.output)
    assert "aves barks" in said
    assert re.search(r"more-animals 0 0 unknown until measured \d+ fits on 2 keys", said)
    text = example.read_text("utf-8")
    example.write_text(
        text.replace("domain: animal}\n  logmel", "domain: animl}\n  logmel").replace("seeds: 2", "seeds: 0")
    )
    lines = fs("study", "run", example).stderr.splitlines()
    shown = re.findall(r"^error: study\.yaml.*$", PAGE, re.MULTILINE)
    assert [line.replace(f"{example.parent}/", "") for line in lines] == shown


@pytest.mark.slow
def test_the_example_runs(example: Path, tmp_path: Path) -> None:
    result = fs("study", "run", example, "--quiet")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "report/comparisons.csv")
    contrasts = table[table["contrast"].str.startswith("study: ")]
    assert set(contrasts["contrast"]) == {"study: pre-training", "study: training"}
    assert set(contrasts["b"]) == {"hubert-untrained", "speech: hubert"}
    assert len(pd.read_csv(tmp_path / "results/_confounds/confound_scores.csv"))
    assert (tmp_path / "results/_curve.parquet").is_file()
    assert fs("study", "run", example, "--quiet").output.startswith("nothing to do")
    assert fs("study", "script", example, "--out", tmp_path / "jobs").exit_code == 0
