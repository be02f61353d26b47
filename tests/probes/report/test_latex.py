"""Tables for LaTeX: what data hold is printed and never read as a command."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import report_results

from probes.report import load_report_data
from probes.report.latex import latex, latex_tables
from probes.report.tables import comparisons_table

COMPILERS = [c for c in ("pdflatex", "lualatex", "xelatex", "tectonic") if shutil.which(c)]
HOSTILE = r"\input{/etc/passwd} 50% #1 $x^2$ a&b ~_{} [4pt] *x -- `q' <>|" + '"'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = {HOSTILE: (0, 1, 2), "other": (0, 1, 2), "logmel": (0,)}
    skill = {(m, k): report_results.SKILL["other", k] for m in (HOSTILE, "other") for k in range(3)}
    skill["logmel", 0] = report_results.SKILL["logmel", 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_results, "MODELS", models)
        patch.setattr(report_results, "SKILL", skill)
        patch.setattr(report_results, "LABEL", "call_type & 100 %")
        return report_results.write_results(tmp_path_factory.mktemp("results"))


def unescaped(text: str) -> str:
    """What TeX prints of an escaped text, by the definitions of the escapes alone."""
    words = {
        "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<",
        "textgreater": ">", "textbar": "|", "textquotedbl": '"', "textquotesingle": "'",
        "textasciigrave": "`",
    }  # fmt: skip
    out = re.sub(r"\\(text[a-z]+)\{\}", lambda m: "\0" + words[m[1]] + "\0", text)
    out = re.sub(r"(?<!\\)\{([^\\]?)\}", r"\1", out)
    return re.sub(r"\\([{}$&#_%])", r"\1", out).replace("\0", "")


def test_every_special_character_is_printed() -> None:
    text = latex(HOSTILE)
    assert unescaped(text) == HOSTILE
    # No command but those that stand for a character, no comment, column or mathematics.
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= {
        "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar",
        "textquotedbl", "textquotesingle", "textasciigrave",
    }  # fmt: skip
    assert not re.search(r"(?<!\\)[%&#$_]", text)
    assert latex("a\nb\x1b") == latex(r"a\nb\x1b")
    assert latex("ñeñe") == "ñeñe"


def test_tables_hold_the_numbers_of_the_report(results: Path) -> None:
    data = load_report_data(results)
    text = latex_tables(data)
    (question,) = data.questions
    rows = [line for line in text.splitlines() if line.endswith(r" \\") and " & " in line]
    assert rows[0].startswith("Model & Layer & Test UAR")
    cells = {line.split(" & ")[0]: line for line in rows}
    for answer in question.answers.to_dict("records"):
        row = cells[latex(answer["model"])]
        assert f"{100 * answer['score_test_mean']:.1f} $\\pm$ {100 * answer['score_test_std']:.1f}" in row
    compared = comparisons_table(data)
    assert len(rows) == 2 + len(question.answers) + len(compared)  # a head each
    assert all(line.count(" & ") in (5, 6) for line in rows)
    assert "\\input" not in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 3


@pytest.mark.slow
@pytest.mark.skipif(not COMPILERS, reason="needs pdflatex, lualatex, xelatex or tectonic on the PATH")
def test_latex_takes_them(results: Path, tmp_path: Path) -> None:
    (tmp_path / "tables.tex").write_text(latex_tables(load_report_data(results)), encoding="utf-8")
    page = (
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{array,booktabs,longtable}"
        r"\begin{document}\input{tables}\end{document}"
    )
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    options = [] if COMPILERS[0] == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([COMPILERS[0], *options, "page.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 1000


def test_a_table_without_comparisons_is_one_table(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_results, "MODELS", {"logmel": (0,)})
        data = load_report_data(report_results.write_results(tmp_path))
    text = latex_tables(data)
    assert pd.isna(data.questions[0].answers["score_test_std"]).sum() == 0
    assert "longtable}" in text.splitlines()[1]  # the preamble alone names it
    assert r"\begin{longtable}" not in text
