"""What the page can be filtered by: controls of a form, each with what it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from probes.report.charts.figure import SeriesStyle, series_styles, shown

if TYPE_CHECKING:
    from probes.report.data import ReportData

# Attribute of a question, and the legend of its controls.
OF_QUESTIONS = {"dataset": "Data sets", "label": "Labels", "classifier": "Classifiers", "split": "Splits"}
# Half as large as Vega draws them.
_POINTS = {
    "circle": '<circle cx="12" cy="6" r="3.2"/>',
    "square": '<rect x="9" y="3" width="6" height="6"/>',
    "triangle-up": '<path d="M12 2.4 15.8 9H8.2z"/>',
    "diamond": '<path d="M12 1.8 16 6l-4 4.2L8 6z"/>',
    "triangle-down": '<path d="M12 9.6 15.8 3H8.2z"/>',
    "cross": '<path d="M11 2h2v3h3v2h-3v3h-2V7H8V5h3z"/>',
}


def filters_of(data: ReportData) -> dict[str, Any]:
    """Models, layers, and whatever questions differ in.

    Returns:
        ``models`` (name, number, key), ``questions`` (attribute, legend, values; those of one value alone are
        left out), ``layers`` (lowest and highest; None where there is one).
    """
    layers = sorted({k for q in data.questions for m in q.models for k in q.layers_of(m)})
    values = {
        name: list(dict.fromkeys(shown(getattr(q, name)) for q in data.questions)) for name in OF_QUESTIONS
    }
    return {
        "models": [
            {"name": model, "number": i, "key": _key(style)}
            for i, (model, style) in enumerate(series_styles(data).items())
        ],
        "questions": [
            {"name": name, "legend": OF_QUESTIONS[name], "values": of}
            for name, of in values.items()
            if len(of) > 1
        ],
        "layers": (layers[0], layers[-1]) if len(layers) > 1 else None,
    }


def _key(style: SeriesStyle) -> Markup:
    """Line and point of a model, as charts draw them."""
    dash = " ".join(map(str, style.dash)) if style.dash[1] else "none"
    return Markup(
        '<svg class="key s{index}" viewBox="0 0 24 12" aria-hidden="true">'
        '<path class="line" d="M0 6H24" stroke-dasharray="{dash}"/>{point}</svg>'
    ).format(index=style.index, dash=dash, point=Markup(_POINTS[style.shape]))
