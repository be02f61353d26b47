r"""The tables of a report for LaTeX, in the style of the package booktabs.

Names come from data and are text in LaTeX too: what it would read as a command, a comment, a column or the
option of a line end is escaped. Letters stay as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featurestore.printable import printable
from probes.classifiers.layer_combination import EACH
from probes.metrics import points
from probes.report.tables import chance_text, extent, percent, place_of, spread_of

if TYPE_CHECKING:
    from probes.report.data import ReportData, ReportedQuestion

#: What the file begins with.
LATEX_MARK = "% Tables of a report of featurestore-audio."
_HEAD = rf"""{LATEX_MARK}
% In the preamble: \usepackage[T1]{{fontenc}}\usepackage{{array,booktabs,longtable}}
% Names that are not in Latin letters need LuaLaTeX or XeLaTeX, with a font that has them.
"""
_WRITTEN = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "{}$&#_%"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    # Behind a line end of a table these are its option and its star.
    **{c: f"{{{c}}}" for c in "[]*"},
    # A ligature of TeX.
    "--": "-{}-",
}
_ESCAPED = re.compile("|".join(map(re.escape, _WRITTEN)))
# Signs of ours that T1 has no letter for.
_SIGNS = {"−": "$-$", "±": r"$\pm$", "–": "--", "≠": r"$\neq$", "²": "$^2$"}


def latex_tables(data: ReportData) -> str:
    """``tables.tex``: of every question its models, and what was compared."""
    parts = [_HEAD]
    for i, q in enumerate(data.questions, start=1):
        parts.append(_models(data, q, f"tab:models-{i}"))
        compared = [c for of, c in data.comparisons if of.name == q.name]
        if compared:
            rows = []
            for c in compared:
                r = c.result
                between = "" if math.isnan(r.low) else f"{points(r.low)} to {points(r.high)}"
                p = "" if math.isnan(c.p_holm) else ("<0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}")
                names = [latex(text) for text in (c.contrast, c.a, c.b)]
                values = [own(text) for text in (points(r.difference), between)]
                rows.append([*names, *values, latex(p), str(r.n_groups)])
            heads = ("Compared", "A", "B", "A − B", r"95 % interval", "p (Holm)", "Groups")
            caption = (
                f"{latex(q.title)}: differences of test {own(q.metric)} in points, on the same test clips, "
                "paired by group; p-values corrected by Holm's procedure within comparisons of one kind."
            )
            column = r">{\raggedright\arraybackslash}p{0.2\linewidth}"
            parts.append(
                _table(heads, rows, f"l{column}{column}rrrr", caption, f"tab:comparisons-{i}", long=True)
            )
    return "\n".join(parts)


def _models(data: ReportData, q: ReportedQuestion, label: str) -> str:
    judged = data.findings[q.name].judged_answers
    rows = []
    for row in q.answers.to_dict("records"):
        of_model = judged.get(str(row["model"])) if row["combine"] == EACH else None
        interval = of_model.interval if of_model is not None else None
        between = ""
        if interval is not None and not interval.reason:
            between = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
        rows.append(
            [
                latex(row["model"]),
                latex(place_of(row)),
                own(percent(row["score_test_mean"], row["score_test_std"])),
                between,
                f"{100 * row['score_val_mean']:.1f}",
                f"{round(row['n_test']):,}",
            ]
        )
    heads = ("Model", "Layer", f"Test {q.metric}", r"95 % interval", f"Val. {q.metric}", "Test clips")
    caption = (
        f"{latex(q.title)}: {own(q.metric)} in \\%, {latex(spread_of(q))}, at the layer that validation "
        f"chose; {latex(extent(q))}; {latex(chance_text(q))}."
    )
    return _table(heads, rows, "llrrrr", caption, label)


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: str,
    caption: str,
    label: str,
    *,
    long: bool = False,
) -> str:
    """A table, or one that goes on over pages; cells and caption are LaTeX already."""
    lines = [" & ".join(row) + r" \\" for row in rows]
    head = " & ".join(map(own, heads)).replace("%", r"\%") + r" \\"
    if long:
        begin = [rf"\begin{{longtable}}{{{columns}}}", rf"\caption{{{caption}}}\label{{{label}}} \\"]
        rules = [r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
        return "\n".join([*begin, *rules, *lines, r"\end{longtable}", ""])
    begin = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}\label{{{label}}}"]
    inner = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *lines, r"\bottomrule"]
    return "\n".join([*begin, *inner, r"\end{tabular}", r"\end{table}", ""])


def latex(text: object) -> str:
    r"""Text of data as LaTeX that prints it.

    >>> latex("50 % of_all \\input{x}")
    '50 \\% of\\_all \\textbackslash{}input\\{x\\}'
    """
    return own(_ESCAPED.sub(lambda found: _WRITTEN[found[0]], printable(text)))


def own(text: str) -> str:
    """A text of ours whose signs LaTeX has under other names."""
    for sign, written in _SIGNS.items():
        text = text.replace(sign, written)
    return text
