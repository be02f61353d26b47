"""What the figures of the explaining pages share: one look, and where they are kept.

`python docs/figures/NAME.py` draws `docs/images/explained-NAME.svg` anew and prints the numbers that the page
quotes; `tests/test_figures.py` compares these. Vega-Lite through Altair, as the report's charts are.
"""

from __future__ import annotations

from pathlib import Path

import altair as alt

IMAGES = Path(__file__).resolve().parent.parent / "images"
INK, MUTED, BAD, GOOD, PAPER = "#1b1b19", "#63635e", "#d55e00", "#0072b2", "#fefefd"
# Wide enough for two charts beside each other on the site's column, and legible on a telephone.
WIDTH, HEIGHT = 300, 190


def save(chart: alt.TopLevelMixin, name: str) -> None:
    """Write a chart as ``explained-<name>.svg``."""
    import vl_convert

    look = {
        "background": PAPER,
        "padding": 12,
        "font": "Helvetica, Arial, sans-serif",
        "axis": {
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "gridColor": "#e4e3de",
        },
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "labelLimit": 320},
        "title": {"fontSize": 13, "fontWeight": "normal", "anchor": "start", "color": INK},
        "view": {"stroke": None},
    }
    spec = chart.to_dict() | {"config": look}
    svg = vl_convert.vegalite_to_svg(spec)
    (IMAGES / f"explained-{name}.svg").write_text(svg, encoding="utf-8")
