"""A tiny study on disk: noise and tones, log-mel and MFCC, nothing that needs weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from tests.conftest import write_clips

STUDY = """\
store: features.zarr
corpora:
  tones:
    manifest: audio/manifest.csv
    labels: [kind]
models:
  logmel: {model: logmel}
  mfcc: {model: mfcc}
extract: {unit_rows: 16, selfcheck: 0}
probings:
  main:
    classifiers: [centroid, lda]
    split: kfold:3
"""


def fs(*words: str | Path) -> Result:
    """Run `fs`; what it raises that is no exit is raised."""
    return CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)


def words_of(text: str) -> str:
    """A text without line breaks and runs of spaces."""
    return " ".join(text.split())


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study file beside 48 clips."""

    def make(text: str = STUDY, n_clips: int = 48) -> Path:
        if not (tmp_path / "audio").exists():
            write_clips(tmp_path / "audio", [3_000 + 40 * i for i in range(n_clips)])
        file = tmp_path / "study.yaml"
        file.write_text(text, "utf-8")
        return file

    return make
