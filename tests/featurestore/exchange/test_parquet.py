from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from featurestore.exchange import export
from tests.featurestore.exchange.keys import FINGERPRINT, LAYERS, manifest_of, read_key, write_key


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pandas_reads_ids_labels_and_vectors(tmp_path: Path, dtype: str) -> None:
    write_key(tmp_path / "a", dtype=dtype, units=(0, 2))
    summary = export(tmp_path / "a", tmp_path / "out", format="parquet")
    assert "8 rows are not committed yet" in summary.notes[0]
    features = read_key(tmp_path / "a")
    index = features.index
    for k in LAYERS:
        table = pd.read_parquet(tmp_path / f"out/tiny/calls/layer_{k:02d}.parquet")
        assert set(table["model"]) == {"tiny"}
        assert set(table["dataset"]) == {"calls"}
        assert set(table["layer"]) == {k}
        for column in index.columns:
            expected, got = index[column], table[column]
            assert got[expected.notna()].tolist() == expected.dropna().tolist()
            assert got.isna().tolist() == expected.isna().tolist()
        for i, functional in enumerate(features.functionals):
            vectors = np.stack(table[functional].tolist())
            assert vectors.dtype == np.float32
            assert vectors.tobytes() == np.ascontiguousarray(features.layer(k).numpy()[:, i]).tobytes()


def test_a_folder_reads_as_one_long_table(tmp_path: Path) -> None:
    write_key(tmp_path / "a", n=9)
    write_key(tmp_path / "a", n=5, model="other", failed=())
    export(tmp_path / "a", tmp_path / "out", format="parquet", layers=[0, 3])
    table = pd.read_parquet(tmp_path / "out")
    sizes = table.groupby(["model", "layer"]).size().to_dict()
    assert sizes == {("other", 0): 5, ("other", 3): 5, ("tiny", 0): 9, ("tiny", 3): 9}


def test_the_file_describes_itself_and_checks_its_pages(tmp_path: Path) -> None:
    write_key(tmp_path / "a")
    export(tmp_path / "a", tmp_path / "out", format="parquet", layers=[1])
    path = tmp_path / "out/tiny/calls/layer_01.parquet"
    described = json.loads(pq.read_schema(path).metadata[b"featurestore"])
    assert described["fingerprint"] == FINGERPRINT
    assert described["label_columns"] == ["call type", "a/b%.", "species"]
    metadata = pq.read_metadata(path)
    column = next(
        c
        for c in map(metadata.row_group(0).column, range(metadata.num_columns))
        if c.path_in_schema.startswith("mean.")
    )
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        pq.read_table(path, page_checksum_verification=True)


def test_labels_whose_names_are_taken_get_another(tmp_path: Path) -> None:
    manifest = manifest_of(6)
    manifest.table["mean"] = "m"
    manifest.table["layer"] = "l"
    manifest.table["label_layer"] = "ll"
    write_key(tmp_path / "a", n=6, failed=(), manifest=manifest)
    summary = export(tmp_path / "a", tmp_path / "out", format="parquet", layers=[0])
    assert summary.notes == (
        "tiny/calls: label 'mean' is column 'label_mean', since 'mean' is taken",
        "tiny/calls: label 'layer' is column 'label_layer_', since 'layer' is taken",
    )
    table = pd.read_parquet(tmp_path / "out/tiny/calls/layer_00.parquet")
    assert set(table["label_mean"]) == {"m"}
    assert set(table["label_layer_"]) == {"l"}
    assert set(table["label_layer"]) == {"ll"}
    assert set(table["layer"]) == {0}
