"""What a probe or results name for code is imported only where whoever runs the command names it too."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.command_line import fs, good, one_line_error
from tests.conftest import write_clips
from tests.extractors import hear_tiny

NOTE = "\nfrom pathlib import Path\nPath({mark!r}).write_text('imported')\n"
CLASSIFIER = "from sklearn.linear_model import LogisticRegression as Named\n"


class Code:
    """An importable module that leaves a mark when it is imported."""

    def __init__(self, folder: Path, name: str, source: str) -> None:
        self.name, self.mark = name, folder / f"{name}.mark"
        (folder / f"{name}.py").write_text(source + NOTE.format(mark=str(self.mark)))

    def forget(self) -> None:
        sys.modules.pop(self.name, None)
        self.mark.unlink()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Code]:
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    sources = {"hear_of_somebody": Path(hear_tiny.__file__).read_text(), "probe_of_somebody": CLASSIFIER}
    return {name: Code(tmp_path / "code", name, source) for name, source in sources.items()}


@pytest.mark.slow
def test_a_probe_that_names_a_hear_module_runs_it_only_when_told(
    tmp_path: Path, code: dict[str, Code]
) -> None:
    hear, root = code["hear_of_somebody"], tmp_path
    manifest = write_clips(root / "audio", [5000 + 61 * i for i in range(24)])
    spec = f"hear:{hear.name}"
    good("extract", "--manifest", manifest, "--dataset", "d", "--model", spec, "--store", root / "s", "-q")
    assert hear.mark.exists()
    hear.forget()
    asked = ("--store", root / "s", "--label", "kind", "--split", "random", "--classifier", "lda", "-q")
    good("probe", *asked, "--out", root / "r")
    good("report", root / "r", "--out", root / "report")
    good("save-probe", root / "r", "--out", root / "p")
    predict = ("predict", "--probe", root / "p", "--manifest", manifest, "--out", root / "new.csv", "-q")
    one_line_error(fs(*predict), "hear_of_somebody", "whose code would be run here", f"--model {spec}")
    good("predict", "--probe", root / "p", "--store", root / "s", "--out", root / "stored.csv")
    assert not hear.mark.exists()
    assert not (root / "new.csv").exists()
    good(*predict, "--model", spec)
    assert hear.mark.exists()
    new, stored = pd.read_csv(root / "new.csv"), pd.read_csv(root / "stored.csv")
    assert new["prediction"].tolist() == stored["prediction"].tolist()


@pytest.mark.slow
def test_results_that_name_an_import_path_are_shown_without_it_and_saved_only_when_told(
    tmp_path: Path, code: dict[str, Code]
) -> None:
    classifier, root = code["probe_of_somebody"], tmp_path
    manifest = write_clips(root / "audio", [5000 + 61 * i for i in range(24)])
    good("extract", "--manifest", manifest, "--dataset", "d", "--model", "mfcc", "--store", root / "s", "-q")
    path = f"{classifier.name}:Named"
    asked = ("--store", root / "s", "--label", "kind", "--split", "random", "-q")
    good("probe", *asked, "--classifier", path, "--out", root / "r")
    assert classifier.mark.exists()
    classifier.forget()
    good("report", root / "r", "--out", root / "report")
    save = ("save-probe", root / "r", "--out", root / "p")
    one_line_error(fs(*save), repr(path), "whose code would be imported here", f"--classifier {path}")
    assert not classifier.mark.exists()
    good(*save, "--classifier", path)
    assert classifier.mark.exists()
    classifier.forget()
    good("predict", "--probe", root / "p", "--store", root / "s", "--out", root / "a.csv")
    assert not classifier.mark.exists()


def test_a_registered_extractor_counts_as_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from extractors.models.registry import ENTRY_POINT_GROUP, runs_code

    info = tmp_path / "somebody-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\ntheirs = nowhere:Source\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert runs_code("theirs:x")
    assert runs_code("hear:x")
    for spec in ("logmel", "logmel:44100", "untrained:hear", "facebook/hubert-base-ls960", "/a/hear:b"):
        assert not runs_code(spec), spec
    shutil.rmtree(info)
