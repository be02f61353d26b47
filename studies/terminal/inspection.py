"""`fs inspect` in a terminal: what layers share, their shape, and utterances to listen to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import ConfigError
from featurestore.names import is_whole_number
from featurestore.printable import counted, plain
from studies.terminal.console import print_remarks
from studies.terminal.progress import shares_done
from studies.terminal.screen import console

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from probes.geometry import Inspection

# A table of all layers wider than this is no table; more models or layers are in the file.
MOST_COLUMNS = 14
MOST_SUSPECTS = 10
# Column of the table of layers, its head, decimals, and what it is multiplied by.
SHAPE = (
    ("two_nn", "TwoNN", 1, 1),
    ("participation_ratio_debiased", "PR", 1, 1),
    ("effective_rank", "eff. rank", 1, 1),
    ("mean_cosine", "mean cos", 3, 1),
)
CLASSES = (
    ("silhouette", "silhouette", 3, 1),
    ("fisher_ratio", "Fisher", 4, 1),
    ("purity", "purity %", 1, 100),
)


def inspect_layers(options: dict[str, Any], out: Path, *, quiet: bool) -> None:
    """Inspect, write the tables, and say what they hold."""
    from featurestore.outputs import check_folder
    from probes.geometry import InspectConfig, inspect_store, write_inspection
    from probes.geometry.inspection_files import check_inspection_folder

    check_folder(out)
    check_inspection_folder(out)
    rows, functionals = options.pop("rows"), options.pop("functionals")
    neighbours = options.pop("neighbours")
    config = InspectConfig(
        rows=_number_of_rows(rows),
        functionals=tuple(f.strip() for f in functionals.split(",")) if functionals else (),
        list_neighbours=neighbours is not None,
        **({} if neighbours is None else {"n_neighbours": neighbours}),
        **options,
    )
    with shares_done("inspecting", quiet=quiet) as progress:
        found = inspect_store(config, progress)
    print_inspection(found)
    paths = write_inspection(found, out)
    console().print(f"tables: {', '.join(str(p) for p in paths)}")


def _number_of_rows(text: str) -> int | None:
    if text == "all":
        return None
    if not is_whole_number(text):
        raise ConfigError(f"rows: expected a number or all, got {text!r}")
    return int(text)


def print_inspection(found: Inspection) -> None:
    """Tables of CKA and of layers, and sentences."""
    out = console()
    out.print(found.scope)
    if len(found.cka):
        out.print(cka_table(found.cka))
    out.print(geometry_table(found.geometry))
    for line in sentences(found):
        out.print(line)
    print_remarks(found.notes)


def cka_table(cka: pd.DataFrame) -> Table:
    """CKA times 100: of all layers where there are few, else of models' middle layers, or some of one."""
    names = list(cka[["model_a", "layer_a"]].drop_duplicates().itertuples(index=False, name=None))
    models = list(dict.fromkeys(m for m, _ in names))
    title = "debiased linear CKA × 100"
    if len(names) > MOST_COLUMNS and len(models) > 1:
        of = {m: [n for n in names if n[0] == m] for m in models}
        names = [layers[len(layers) // 2] for layers in of.values()][:MOST_COLUMNS]
        title += ", middle layers of models (all layers: cka.csv)"
    elif len(names) > MOST_COLUMNS:
        step = (len(names) - 1) / (MOST_COLUMNS - 1)
        names = [names[round(i * step)] for i in range(MOST_COLUMNS)]
        title += ", some layers (all: cka.csv)"
    cells = cka[["model_a", "layer_a", "model_b", "layer_b", "cka"]].itertuples(index=False)
    value = {((a, k), (b, j)): v for a, k, b, j, v in cells}
    several = len(models) > 1
    short = {m: chr(ord("A") + i) if i < 26 else f"M{i}:" for i, m in enumerate(models)} if several else {}
    table = _table(title)
    table.collapse_padding = True
    table.add_column(plain("model · layer"))
    for model, layer in names:
        table.add_column(plain(f"{short.get(model, '')}{layer}"), justify="right")
    for name in names:
        line = [_cka_cell(value[name, other]) for other in names]
        table.add_row(plain(f"{short.get(name[0], '')} {name[0]} · {name[1]}".strip()), *line)
    return table


def _cka_cell(value: float) -> Any:
    """A number, the darker the more alike."""
    if math.isnan(value):
        return plain("–")
    style = "bold" if value >= 0.9 else "" if value >= 0.5 else "dim"
    return plain(f"{100 * value:.0f}", style=style)


def geometry_table(geometry: pd.DataFrame) -> Table:
    """One line per layer."""
    shown = [c for c in (*SHAPE, *CLASSES) if c[0] in geometry]
    table = _table("shape of layers")
    several = geometry["model"].nunique() > 1
    for head in (["model"] if several else []) + ["layer"]:
        table.add_column(plain(head), justify="left" if head == "model" else "right")
    for _, head, _, _ in shown:
        table.add_column(plain(head), justify="right")
    for line in geometry.to_dict("records"):
        cells = [line["model"]] if several else []
        cells.append(line["layer"])
        cells += [_number(factor * line[name], decimals) for name, _, decimals, factor in shown]
        table.add_row(*(plain(c) for c in cells))
    return table


def sentences(found: Inspection) -> list[str]:
    """What the tables say, and how to read them."""
    geometry = found.geometry
    lines = [
        "TwoNN: dimensions of the surface that utterances lie on; PR: participation ratio of the covariance, "
        "debiased; mean cos: 1 where all point one way."
    ]
    if len(geometry) and "purity" in geometry:
        label, chance = geometry["label"].iloc[0], geometry["purity_chance"].iloc[0]
        lines.append(
            f"purity: share of the {geometry['n_neighbours'].iloc[0]} nearest utterances of other groups "
            f"({geometry['grouped_by'].iloc[0]}) with the same {label}; {_number(100 * chance, 1)} % by "
            f"chance. Fisher: {_number(geometry['fisher_chance'].iloc[0], 4)} by chance."
        )
        if geometry["purity"].notna().any() and len(geometry) > 1:
            best = geometry.iloc[int(geometry["purity"].argmax())]
            lines.append(
                f"Purity is highest in {best['model']} layer {best['layer']}: {100 * best['purity']:.1f} %. "
                "It saw all utterances: fs probe chooses the layer of a result, on validation."
            )
    lines += _most_alike(found.cka)
    if found.variance_shares is not None:
        x, y = found.variance_shares
        shares = f"{100 * x:.1f} % and {100 * y:.1f} % of the variance"
        lines.append(f"map.csv: two principal components, {shares}.")
    elif found.plane is not None:
        lines.append(
            f"map.csv: t-SNE of {counted(len(found.plane), 'utterance')}: who is near whom; how far apart "
            "groups lie, and how large they are, says nothing."
        )
    if found.suspects is not None:
        lines += _suspects(found.suspects, found)
    return lines


def _most_alike(cka: pd.DataFrame) -> Iterable[str]:
    """The most alike layers of every two models."""
    between = cka[(cka["model_a"] < cka["model_b"]) & cka["cka"].notna()]
    if not len(between):
        return
    for _, pair in between.groupby(["model_a", "model_b"], sort=False):
        best = pair.iloc[int(pair["cka"].argmax())]
        yield (
            f"Most alike of {best['model_a']} and {best['model_b']}: layers {best['layer_a']} and "
            f"{best['layer_b']}, CKA {best['cka']:.2f}."
        )


def _suspects(table: pd.DataFrame, found: Inspection) -> Iterable[str]:
    wrong = table[table["kind"] == "other-class"]
    yield (
        f"Suspects: of {counted(found.n_judged, 'utterance')} votes agree on another class for "
        f"{len(wrong):,}, and {len(table) - len(wrong):,} are hard."
    )
    yield (
        f"Votes name the given label of {100 * found.agreement:.0f} % (mean over classes): the less, the "
        "more suspects are errors of the layer. Listen before you change a label."
    )
    for line in wrong.head(MOST_SUSPECTS).to_dict("records"):
        votes = [
            f"{100 * line[f'{name}_suggested']:.0f} % of {counted(line[f'n_{name}'], name[:-1])}"
            for name in ("neighbours", "answers")
            if line[f"n_{name}"]
        ]
        said = " and ".join(votes)
        yield f"  {line['utterance_id']}: labelled {line['label']!r}, {said} say {line['suggested']!r}"


def _number(value: float, decimals: int) -> str:
    return "–" if math.isnan(value) else f"{value:,.{decimals}f}"


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, never markup: names come from data and may hold brackets.
    return Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
