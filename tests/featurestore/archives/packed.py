"""A manifest's files packed into one archive, and the manifest that names them there."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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


# Bit 5 of byte 569 changed: the schema says of an optional column that it is of a kind that there is not, and
# what is said of its levels fits no more. Arrow 26 throws where nothing may be thrown, which is SIGABRT.
_ABORTS = (
    "c-rk$L2nX46n?u*7eo%UaV9g#9*D7<9%uywL}L$cNn4E=k)*ctwo(F3YoR~|5|93fo{aIQcrcCe;-B%@_-4j*Yw8bB<ICo~n"
    "SJkl^ETf%+r(CpGk%uf<py^-ECGCV%I5%3D3<P(E7kk82N!9e=X)AB@FgztRG;M@_xviXoI7#d-@TIm&ZjIc5`Q;xE_voU42"
    "ZB>TsA0Ze$#gxO3bvI|AtX#E}hx02nm-n)u@2<#+`omb;Mn$+?ET`>Hfih6MSabl?$)tlkV8A*)W>)m!aWPyI{&!`2c*LQ5E"
    "pAYQ^^1dhQA)KBmQ|WUv>c{tN2Q6_nB<0b-t9mck?P!Bd{9l0b;%>--uG7<%7|cTRAT48A0<%Ii8Fi{Zrkn}P)?@i_&`ml<r"
    "ep6@)g+LLGQU2U}<lD$A{PZ6gW_HYxihjo*}FhqQ&7j?uZ=0zOIHZI*slklb*t<ctcQ)Hp*+HIRAv)|ONz5DVo+NtSuPmfZ%"
    "?B6y;TX=P}pXWUe`}<pVu(__E88AAkjp5YJxe+&op&hal&x`T-$47;|-MGc(*VjSjhSBKcv^!bt42P@HXf&AS-gHOfgTZmGR"
    "9!2q6;+<@q`sEl5&%v5_x}JtBRV1"
)


def write_aborting_parquet(target: Path) -> None:
    """Write a Parquet file of ``audio[0]`` and ``audio[1]`` with one bit changed, at which Arrow aborts.

    Skips the test where this version of Arrow, asked in a process of its own, does not.
    """
    target.write_bytes(zlib.decompress(base64.b85decode(_ABORTS)))
    code = "import sys, pyarrow.parquet as pq; pq.read_metadata(sys.argv[1]).row_group(0).column(0)"
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, check=False)
    if done.returncode != -signal.SIGABRT:
        pytest.skip("this version of Arrow does not abort at it")
