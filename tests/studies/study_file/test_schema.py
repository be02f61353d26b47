"""The published schema of a study file is that of the code, and says what the code says."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from cli import main
from extractors.config import ExtractConfig
from probes.questions.tasks import ProbeConfig
from studies.study_file.schema import Extraction, Part, Probing, Study, json_schema

DOCS = Path(__file__).parents[3] / "docs"
# Asked for once, and not of every run of a study; or what the study itself says.
NOT_IN_A_FILE = {
    "overwrite",
    "refresh",
    "share",
    "dry_run",
    "quiet",
    "names",
    "models",
    "manifest",
    "dataset",
    "store",
}


def test_the_schema_in_the_documentation_is_the_one_that_is_printed() -> None:
    printed = CliRunner().invoke(main, ["study", "schema"]).output
    assert (DOCS / "study.schema.json").read_text("utf-8") == printed
    assert json.loads(printed) == json_schema()


def test_every_key_is_explained() -> None:
    def unexplained(part: type[Part]) -> list[str]:
        return [f"{part.__name__}.{n}" for n, f in part.model_fields.items() if not f.description]

    parts = [Study, *all_parts(Part)]
    assert [name for part in parts for name in unexplained(part)] == []


def all_parts(part: type[Part]) -> list[type[Part]]:
    return [found for sub in part.__subclasses__() for found in (sub, *all_parts(sub))]


def test_every_option_of_extract_and_probe_may_stand_in_a_file() -> None:
    extract = {p.name for p in main.commands["extract"].params} - NOT_IN_A_FILE - {"cluster"}
    assert extract == set(Extraction.model_fields)
    probe = {p.name for p in main.commands["probe"].params} - NOT_IN_A_FILE - {"out", "oracle", "datasets"}
    assert probe == set(Probing.model_fields) - {"corpora", "models"}
    assert {"n_seeds", "curve_draws"} <= set(ProbeConfig.__dataclass_fields__)
    assert "short_policy" in ExtractConfig.__dataclass_fields__
