"""The readers in the documentation read what is exported."""

from __future__ import annotations

import csv
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.exchange import export
from tests.featurestore.exchange.keys import read_key, write_key

PAGE = Path(__file__).parents[3] / "docs" / "exchange.md"


def readers() -> dict[str, list[str]]:
    """Section → its Python snippets."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {s.split("\n", 1)[0]: re.findall(r"```python\n(.*?)```", s, flags=re.DOTALL) for s in sections}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    write_key(tmp_path / "a", failed=())
    monkeypatch.chdir(tmp_path)

    def snippet(section: str, at: int = 0) -> dict[str, Any]:
        names: dict[str, Any] = {}
        # Snippets leave files open, which a script may and a test must not.
        text = re.sub(
            r"json\.load\(open\((.*?)\)\)",
            r"json.loads(pathlib.Path(\1).read_text())",
            readers()[section][at],
        )
        exec(f"import pathlib\n{text}", names)
        return names

    return snippet


def test_hdf5(tmp_path: Path, run: Any) -> None:
    export("a", "features.h5", format="hdf5")
    found, features = run("hdf5"), read_key("a")
    np.testing.assert_array_equal(found["x"], features.layer(3).numpy())
    assert found["y"].tolist() == features.index["species"].tolist()
    found["key"].file.close()


def test_parquet(tmp_path: Path, run: Any) -> None:
    export("a", "tables", format="parquet")
    found, features = run("parquet"), read_key("a")
    np.testing.assert_array_equal(found["x"], features.layer(3).numpy()[:, 0])
    assert found["y"].tolist() == features.index["species"].tolist()


def test_npz(tmp_path: Path, run: Any) -> None:
    export("a", "paper", format="npz")
    found, features = run("npz"), read_key("a")
    row = features.index["utterance_id"].tolist().index(features.manifest.table["utterance_id"].iloc[0])
    expected = features.layer(3).numpy([row]).reshape(-1)
    np.testing.assert_array_equal(found["layer_3_of_first_utterance"], expected)


def test_hear(tmp_path: Path, run: Any) -> None:
    export("a", "raw", format="hear")
    found = run("hear")
    assert found["x"].shape == (12, 12)
    run("hear", 1)
    folder = tmp_path / "raw/tiny/calls/layer_03"
    with (folder / "labelvocabulary.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["idx", "label"], ["0", "AMRE"], ["1", "OVEN"]]
    labels = pickle.loads((folder / "train.target-labels.pkl").read_bytes())
    assert len(labels) == 12
    assert {tuple(cell) for cell in labels} == {("AMRE", "OVEN"), ()}
