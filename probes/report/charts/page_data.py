"""Charts as the page holds them: every table once, as JSON, and the libraries that draw."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from probes.report.charts.figure import Charts, config, shown, without_model_legends

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

    from probes.report.data import ReportData

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif'
# A column of fewer different texts than this share of its rows is shorter as codes.
CODED_SHARE = 0.5
DIGITS = 6


def charts_json(data: ReportData, charts: Charts) -> Markup:
    """Everything that the script of the page draws, for a ``<script type="application/json">``."""
    found = {
        "config": config(FONT),
        "tables": {name: _columns(table) for name, table in charts.tables.items()},
        "figures": [
            {
                "id": figure.name,
                "table": figure.table,
                "where": dict(figure.where),
                "spec": without_model_legends(figure.spec),
            }
            for figure in charts.figures
        ],
    }
    text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=int)
    return in_script(text)


def names_json(data: ReportData) -> Markup:
    """Models and questions that the filters choose from, each in the order of its number."""
    names = ("dataset", "label", "classifier", "split")
    found = {
        "models": [shown(m) for m in data.models],
        "questions": [{name: shown(getattr(q, name)) for name in names} for q in data.questions],
    }
    return in_script(json.dumps(found, ensure_ascii=False))


def in_script(text: str) -> Markup:
    """JSON that nothing in it can end: no ``</script>``, no comment, no line separators."""
    from markupsafe import Markup

    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def libraries() -> Markup:
    """Vega, Vega-Lite and Vega-Embed in one script without a dependency; they make no request.

    Bundling takes more than a second, and always gives the same.
    """
    import vl_convert
    from markupsafe import Markup

    source = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in source.lower()
    assert "<!--" not in source
    return Markup(source)


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    return {str(name): _column(table[name]) for name in table.columns}


def _column(values: pd.Series) -> Any:
    """A list; of texts that repeat a list of texts and one of codes."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(values):
        return [int(v) for v in values]
    if pd.api.types.is_numeric_dtype(values):
        return [None if pd.isna(v) else _short(float(v)) for v in values]
    texts = ["" if pd.isna(v) else str(v) for v in values]
    different = list(dict.fromkeys(texts))
    if len(different) > CODED_SHARE * len(texts):
        return texts
    code = {text: i for i, text in enumerate(different)}
    return {"texts": different, "codes": [code[text] for text in texts]}


def _short(value: float) -> float | int:
    """A number in as many digits as can be seen."""
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
