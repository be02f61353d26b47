"""An inspection as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.outputs import put_file, require_replaceable, writing
from featurestore.spreadsheet import spreadsheet_csv
from probes.geometry.inspection import Inspection

if TYPE_CHECKING:
    import pandas as pd

# Name of each file, the table in it, and what the first line of one of ours holds.
FILES = {
    "cka.csv": ("cka", b"model_a,layer_a"),
    "geometry.csv": ("geometry", b"two_nn,participation_ratio"),
    "neighbours.csv": ("neighbours", b"utterance_id,neighbour_rank"),
    "suspects.csv": ("suspects", b"suspect_rank,utterance_id"),
    "map.csv": ("plane", b"utterance_id,x,y"),
}


def check_inspection_folder(out: Path) -> None:
    """Refuse a folder that holds something else under one of the names.

    Raises:
        ConfigError: it would be lost.
    """
    for name, (_, mark) in FILES.items():
        require_replaceable(out / name, mark, "table of an inspection")


def write_inspection(found: Inspection, out: Path) -> list[Path]:
    """Write the tables that were made, each whole or not at all, and return their paths.

    Tables of an earlier inspection that this one did not make stay: each names its layers.

    Raises:
        ConfigError: the folder holds something else under one of the names.
        StoreError: it cannot be written.
    """
    check_inspection_folder(out)
    written = []
    with writing(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        for name, (attribute, _) in FILES.items():
            table: pd.DataFrame | None = getattr(found, attribute)
            if table is not None and (len(table) or attribute == "suspects"):
                put_file(spreadsheet_csv(table, float_format="%.6g").encode(), out / name)
                written.append(out / name)
    return written
