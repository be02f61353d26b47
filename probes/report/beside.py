"""What other commands left in a results folder: tables of confounds, of inspections, and an audit.

They are looked for in the folder itself and in the folders in it, so that
``fs confounds --out results/confounds`` is enough. Who gives a folder of somebody else reads files of
somebody else: every cell is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import CorruptData
from featurestore.spreadsheet import text_of_cell
from featurestore.untrusted.document_shape import fields, many, one_of, text
from featurestore.untrusted.documents import DocumentError, read_json_document
from featurestore.untrusted.text_table import FIRST_ROW, TextTableError, read_table

if TYPE_CHECKING:
    import pandas as pd

AUDIT_NAME = "audit.json"
_AUDIT = fields(
    {"manifest": text, "findings": many(fields({"kind": text, "severity": text, "text": text}))},
)
_SEVERITY = one_of("fault", "warning", "note")
# Name of each table, the columns it must have, and those of them that are numbers.
TABLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "confound_scores.csv": (
        ("dataset", "label", "split", "models", "confound", "explains"),
        ("uar", "chance", "guessing_error", "ci_low", "ci_high", "n_test", "n_groups"),
    ),
    "confound_layers.csv": (
        ("dataset", "label", "split", "model", "confound", "measure"),
        ("layer", "balanced_accuracy_or_r2", "chance"),
    ),
    "cka.csv": (("model_a", "model_b", "dataset"), ("layer_a", "layer_b", "cka", "n_rows")),
    "geometry.csv": (
        ("dataset", "model"),
        ("layer", "two_nn", "participation_ratio_debiased", "effective_rank", "mean_cosine"),
    ),
    "map.csv": (("utterance_id", "label", "group", "dataset", "model"), ("x", "y", "layer")),
}
# Of labels only; see `probes.geometry.separability`.
SEPARABILITY = ("silhouette", "fisher_ratio", "fisher_chance", "purity", "purity_chance")
# A picture of more points tells no more, and a page of them is slow.
MOST_POINTS = 30_000


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What was found.

    Attributes:
        tables: File name → its rows, numbers as numbers; only of files that are there.
        places: File name → where it was found.
        audit: Findings of an audit: kind, severity, text; empty where there is none.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    places: Mapping[str, Path] = field(default_factory=dict)
    audit: tuple[Mapping[str, str], ...] = ()

    def table(self, name: str) -> pd.DataFrame | None:
        """Rows of a file; None where it is not there."""
        return self.tables.get(name)


def read_beside(results: Path) -> Beside:
    """Read what lies in a results folder besides results.

    Raises:
        CorruptData: a file cannot be read, lacks a column, or has text where a number belongs.
    """
    places = {name: path for name in (*TABLES, AUDIT_NAME) if (path := _place(results, name)) is not None}
    return Beside(
        tables={name: _read(path, *TABLES[name]) for name, path in places.items() if name in TABLES},
        places=places,
        audit=_read_audit(places[AUDIT_NAME]) if AUDIT_NAME in places else (),
    )


def _place(results: Path, name: str) -> Path | None:
    """The file in the folder, else the latest in the folders in it."""
    if (results / name).is_file():
        return results / name
    found = [p for p in results.glob(f"[!._]*/{name}") if p.is_file()]
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p), default=None)


def _read(path: Path, texts: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    advice = "run the command that wrote it again, or move it out of the results folder"
    try:
        table = read_table(path)
    except TextTableError as error:
        raise CorruptData(f"{path}: {error}; {advice}") from error
    lacking = [name for name in (*texts, *numbers) if name not in table]
    if lacking:
        raise CorruptData(f"{path}: expected the columns {', '.join(lacking)}, they are not there; {advice}")
    known = {*numbers, *(name for name in SEPARABILITY if name in table)}
    for name in table.columns:
        if name in known:
            values = pd.to_numeric(table[name].where(table[name] != ""), errors="coerce")
            odd = values.isna() & ~table[name].str.strip().str.lower().isin(["", "nan"])
            if odd.any():
                at = int(odd.to_numpy().argmax())
                row, got = int(table.index[at]) + FIRST_ROW, str(table[name].iloc[at])[:40]
                raise CorruptData(
                    f"{path}: column {name!r}, row {row}: expected a number, got {got!r}; {advice}"
                )
            table[name] = values.astype(float)
        else:
            table[name] = table[name].map(text_of_cell)
    return table


def _read_audit(path: Path) -> tuple[Mapping[str, str], ...]:
    try:
        document: Mapping[str, Any] = read_json_document(path)
        _AUDIT(document, "")
        for finding in document["findings"]:
            _SEVERITY(finding["severity"], "severity")
    except DocumentError as error:
        raise CorruptData(
            f"{path}: cannot be read ({error}); run the audit again, or move it out of the results folder"
        ) from error
    return tuple({k: str(f[k]) for k in ("kind", "severity", "text")} for f in document["findings"])
