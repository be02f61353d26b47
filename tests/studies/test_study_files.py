"""Every study file of the repository, planned on miniature trees in the layouts of its corpora."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from studies.study_file.reading import read_study
from tests.studies.conftest import fs
from tests.study_stand_ins import STUDIES, set_options, stand_ins

NEEDS = {"birdnet": "ai_edge_litert", "catch22": "pycatch22", "birdsong-recognition-dataset": "crowsetta"}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Miniature trees and tiny models that all studies share."""
    return tmp_path_factory.mktemp("stand-ins")


def _published() -> list[Path]:
    # The demo makes its own corpus and model: `test_demo.py` carries it out.
    return [path for path in sorted(STUDIES.glob("*.yaml")) if path.name != "demo.yaml"]


@pytest.fixture(params=_published(), ids=lambda path: path.stem)
def published(request: pytest.FixtureRequest) -> Path:
    """A study file of the repository; skipped where this installation cannot do all of it."""
    study = read_study(request.param).study
    parts = {m.model.split(":")[0] for m in study.models.values()}
    parts |= {str(c.adapter) for c in study.corpora.values()}
    for name in sorted(parts & set(NEEDS)):
        pytest.importorskip(NEEDS[name], reason=f"{name} needs an extra that is not installed")
    return request.param


@pytest.mark.slow
def test_a_study_file_can_be_planned(
    published: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a row of the table is a line
    study = read_study(published).study
    result = fs("study", "run", published, "--dry-run", *stand_ins(published, data, tmp_path / "out"))
    assert result.exit_code == 0, result.output
    for model in study.models:
        for corpus in study.corpora:
            # All utterances are planned and none is embedded.
            row = rf"(?m)^\s*{re.escape(model)}\s+{re.escape(corpus)}\s+[-,\d]+\s+0 of [1-9]\d*\s"
            assert re.search(row, result.output), (model, corpus)
    for probing in study.probings:
        assert re.search(rf"(?m)^\s*{re.escape(probing)}\s+0\s", result.output), probing
    assert not (tmp_path / "out").exists()


def test_a_study_file_says_what_it_looks_for(published: Path, tmp_path: Path, data: Path) -> None:
    """Without the corpora every missing source is named, with the line that says where it would be."""
    values = [v for v in stand_ins(published, data, tmp_path / "out")[1::2] if not v.startswith("corpora.")]
    study = read_study(published).study
    missing = [f"corpora.{name}.source={tmp_path}/none/{name}" for name in study.corpora]
    result = fs("study", "run", published, "--dry-run", *set_options([*values, *missing]))
    assert result.exit_code == 2
    said = "".join(result.output.split())
    for name in study.corpora:
        assert f"{tmp_path}/none/{name}" in said
