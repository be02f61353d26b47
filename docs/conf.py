"""Settings of the documentation site: `make docs` builds it into docs/_build/html, warnings being errors.

The pages are Markdown (MyST). Tutorials run while the site is built (MyST-NB), so what they print is what
the code of the day says. Nothing is fetched: names of other projects are linked only where
FS_DOCS_INTERSPHINX is set, since their inventories lie in the net.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click
from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
# Tutorials run in processes of their own and type `fs` as a reader would.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = str(ROOT)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A width at which every table of the tutorials fits, and no codes of colour between the words.
os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
sys.path.insert(0, str(ROOT))

project = "featurestore-audio"
project_copyright = "the authors of featurestore-audio"
html_title = "featurestore-audio"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "jupyter_execute"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "auto"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
# Without running them (-D nb_execution_mode=off) notebooks name no language.
suppress_warnings = ["myst-nb.lexer"]
copybutton_prompt_text = "$ "

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

if os.environ.get("FS_DOCS_INTERSPHINX"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "zarr": ("https://zarr.readthedocs.io/en/stable", None),
        "dask": ("https://docs.dask.org/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
    }

RESULTS_INDEX = """# Benchmarks

What the programs in `benchmarks/` measured last, with the machine they ran on. Ratios carry over to other
machines, seconds do not.

```{toctree}
:glob:

*
```
"""
RECORDED = re.compile(r"\]\(\.\./benchmarks/results/([\w.-]+)\.md")


def benchmark_pages(app: Sphinx) -> None:
    """Put what the benchmarks last gave among the sources: their home is outside this folder."""
    target = Path(app.srcdir) / "results"
    target.mkdir(exist_ok=True)
    for page in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        copy = target / page.name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
    index = target / "index.md"
    if not index.exists():
        index.write_text(RESULTS_INDEX, encoding="utf-8")


def link_to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links to a benchmark's result lead to its page of this site; in a clone they lead to the file."""
    source[0] = RECORDED.sub(r"](results/\1.md", source[0])


def show_as_typed(app: Sphinx, doctree: nodes.document) -> None:
    """Show a notebook's `!command` as what a reader types into a terminal."""
    for block in doctree.findall(nodes.literal_block):
        text = block.astext()
        if text.startswith("!"):
            typed = re.sub(r"^!", "$ ", text, flags=re.MULTILINE)
            block.replace_self(nodes.literal_block(typed, typed, language="console"))


def corpora_as_commands(app: Sphinx) -> None:
    """Hold the commands of `fs manifest` ready: sphinx-click lists no command that is made when asked for."""
    import cli

    context = click.Context(cli.manifest)
    made = {name: cli.manifest.get_command(context, name) for name in cli.manifest.list_commands(context)}
    for command in made.values():
        cli.manifest.add_command(command)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", corpora_as_commands)
    app.connect("builder-inited", benchmark_pages)
    app.connect("source-read", link_to_pages)
    app.connect("doctree-read", show_as_typed)
