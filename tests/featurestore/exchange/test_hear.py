from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featurestore.exchange import export
from featurestore.manifest.table import Manifest
from tests.featurestore.exchange.keys import LAYERS, manifest_of, read_key, write_key

N = 23


def read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_split_maps_as_in_the_kit(tmp_path: Path, dtype: str) -> None:
    write_key(tmp_path / "a", dtype=dtype)
    summary = export(tmp_path / "a", tmp_path / "out", format="hear")
    assert summary.notes == (
        "tiny/calls: 2 rows whose audio failed are left out, since HEAR's kit refuses values that are not "
        "numbers",
    )
    features = read_key(tmp_path / "a")
    index = features.index.set_index("utterance_id")
    row_of = {i: row for row, i in enumerate(index.index)}
    for k in LAYERS:
        folder = tmp_path / f"out/tiny/calls/layer_{k:02d}"
        values = features.layer(k).numpy()
        seen: list[str] = []
        for ours, theirs in (("train", "train"), ("val", "valid"), ("test", "test")):
            # The way heareval 2021.1.3 opens them.
            shape = tuple(json.loads((folder / f"{theirs}.embedding-dimensions.json").read_text()))
            mapped = np.memmap(folder / f"{theirs}.embeddings.npy", dtype=np.float32, mode="r", shape=shape)
            assert (folder / f"{theirs}.embeddings.npy").stat().st_size == mapped.nbytes
            ids = read_json(folder / f"{theirs}.utterance-ids.json")
            assert isinstance(ids, list)
            assert len(ids) == shape[0]
            assert mapped.tobytes() == values[[row_of[i] for i in ids]].reshape(shape).tobytes()
            assert set(index.loc[ids, "split"]) == {ours}
            labels = read_json(folder / f"{theirs}.target-labels.json")
            assert isinstance(labels, dict)
            cells = index.loc[ids, "call type"].tolist()
            assert labels["call type"] == [[c] if c else [] for c in cells]
            sets = {"AMRE|OVEN": ["AMRE", "OVEN"], "|": [], "": [], "OVEN": ["OVEN"]}
            assert labels["species"] == [sets[c] for c in index.loc[ids, "species"]]
            seen += ids
        assert sorted(seen) == sorted(index.index[index["status"] == "ok"])
        vocabulary = read_json(folder / "labelvocabulary.json")
        assert isinstance(vocabulary, dict)
        assert vocabulary["species"] == ["AMRE", "OVEN"]
        assert set(vocabulary["call type"]) == set(index["call type"]) - {""}
    assert not list((tmp_path / "out").rglob("*.pkl"))


def test_rows_are_shuffled_once_and_the_same_way(tmp_path: Path) -> None:
    write_key(tmp_path / "a", n=200, unit_rows=64, failed=())
    orders = []
    for name in ("one", "two"):
        export(tmp_path / "a", tmp_path / name, format="hear", layers=[0])
        orders.append(read_json(tmp_path / name / "tiny/calls/layer_00/train.utterance-ids.json"))
    assert orders[0] == orders[1]
    assert isinstance(orders[0], list)
    place = {i: at for at, i in enumerate(read_key(tmp_path / "a").index["utterance_id"])}
    stored = np.array([place[i] for i in orders[0]])
    assert abs(np.corrcoef(stored, np.arange(len(stored)))[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("splits", "parts"),
    [([""] * 6, {"all"}), (["train", "", "train", "", "", "test"], {"train", "unsplit", "test"})],
)
def test_rows_without_a_split_have_a_file(tmp_path: Path, splits: list[str], parts: set[str]) -> None:
    table = manifest_of(6).table.assign(split=splits)
    write_key(tmp_path / "a", n=6, failed=(), manifest=Manifest(table=table, source="m.csv"))
    export(tmp_path / "a", tmp_path / "out", format="hear", layers=[0])
    folder = tmp_path / "out/tiny/calls/layer_00"
    assert {p.name.split(".")[0] for p in folder.glob("*.embeddings.npy")} == parts
    sizes = [read_json(p) for p in folder.glob("*.embedding-dimensions.json")]
    assert sum(s[0] for s in sizes if isinstance(s, list)) == 6
