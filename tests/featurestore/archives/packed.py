"""A manifest's files packed into one archive, and the manifest that names them there."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

KINDS = ("tar", "zip", "parquet")
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_archive(kind: str, target: Path, files: Mapping[str, Path], group_rows: int = 4) -> list[str]:
    """Write files, by their names inside, into an archive; returns what a manifest beside it calls them."""
    if kind == "tar":
        with tarfile.open(target, "w") as tar:
            for name, path in files.items():
                tar.add(path, arcname=f"./{name}")
    elif kind == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, path in files.items():
                zipped.write(path, name)
    else:
        cells = [{"bytes": path.read_bytes(), "path": name} for name, path in files.items()]
        pq.write_table(pa.table({"audio": pa.array(cells, AUDIO)}), target, row_group_size=group_rows)
    members = [f"audio[{i}]" for i in range(len(files))] if kind == "parquet" else list(files)
    return [f"{target.name}::{member}" for member in members]


def pack(manifest: Path, kind: str) -> Path:
    """A manifest of what this one lists, with the same ids, in ``packed.<kind>`` beside it."""
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    if "utterance_id" not in table:
        table.insert(0, "utterance_id", [Path(p).stem for p in table["path"]])
    names = list(dict.fromkeys(table["path"]))
    files = {name: manifest.parent / name for name in names}
    paths = write_archive(kind, manifest.parent / f"packed.{kind}", files)
    table["path"] = table["path"].map(dict(zip(names, paths, strict=True)))
    target = manifest.parent / f"{kind}.csv"
    table.to_csv(target, index=False)
    return target


def with_ids(manifest: Path) -> Path:
    """The manifest of the files, with the ids that `pack` gives."""
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    table.insert(0, "utterance_id", [Path(p).stem for p in table["path"]])
    table.to_csv(manifest.parent / "files.csv", index=False)
    return manifest.parent / "files.csv"


def hub_schema(features: Mapping[str, object], fields: Sequence[tuple[str, pa.DataType]]) -> pa.Schema:
    """The schema that ``datasets`` writes: fields, with their features in its metadata."""
    said = json.dumps({"info": {"features": features}})
    return pa.schema([pa.field(n, t) for n, t in fields]).with_metadata({"huggingface": said})
