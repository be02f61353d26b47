"""Methods in words: every value is from the records, and each record that changes changes the words."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import recordings
from click.testing import CliRunner

import cli
from probes.report import load_report_data
from probes.report.clips.embedded_keys import EmbeddedKeys
from probes.report.data import ReportData
from probes.report.methods import embeddings, probing
from probes.report.methods.document import (
    methods,
    methods_bibtex,
    methods_markdown,
    page_context,
    software,
)
from probes.report.methods.references import REFERENCES, TOOLS, model_keys
from probes.report.methods.wording import Paragraph, as_html, as_markdown, as_text, cite, name

KEY = "logmel/calls"


def run(*words: str) -> None:
    done = CliRunner().invoke(cli.main, list(words))
    assert done.exit_code == 0, (words, done.output, done.exception)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models on one data set; network probes and scikit-learn's, in folds of birds."""
    folder = tmp_path_factory.mktemp("methods")
    recordings.write_recordings(folder, n_recordings=2).to_csv(folder / "manifest.csv", index=False)
    common = ["--manifest", str(folder / "manifest.csv"), "--dataset", "calls", "--quiet"]
    store = ["--store", str(folder / "s.zarr")]
    run("extract", "--model", "logmel", *common, *store)
    run("extract", "--model", "mfcc", *common, *store)
    (folder / "grid.yaml").write_text("linear: {max_epochs: 3, learning_rate: [0.01, 0.001]}\n")
    words = ["--label", "call", "--split", "group-kfold:4", "--classifier", "linear", "--classifier", "knn"]
    run("probe", *store, *words, "--grid", str(folder / "grid.yaml"), "--seeds", "2", "--quiet",
        "--out", str(folder / "results"))  # fmt: skip
    return folder / "results"


def keys_of(data: ReportData) -> EmbeddedKeys:
    return EmbeddedKeys(data.path, data.run)


@pytest.fixture(scope="module")
def data(results: Path) -> ReportData:
    return load_report_data(results)


@pytest.fixture(scope="module")
def text(data: ReportData) -> str:
    """The whole of methods.md."""
    return methods_markdown(methods(data, keys_of(data)))


def words(data: ReportData) -> str:
    """What is said of a run, but for its intervals, which are no record."""
    found = [*probing.split_sentences(data), *probing.classifier_sentences(data)]
    return as_text(" ".join([*found, *probing.choice_sentences(data), *software(data)]))


def changed(data: ReportData, change: Callable[[dict[str, Any]], object]) -> ReportData:
    """The same results after a change of ``_run.json``."""
    content = copy.deepcopy(dict(data.run))
    change(content)
    return replace(data, run=content)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all single values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    return found or [path]


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.mark.parametrize("key", ["logmel/calls", "mfcc/calls"])
def test_every_field_of_an_extraction_changes_the_words(data: ReportData, key: str) -> None:
    record = data.run["extractions"][key]
    # What the card repeats of the fingerprint, or says for people; versions of the key: its units' are told.
    silent = {"name", "sample_rate_hz", "hop_samples", "normalisation", "normalisation_source"}
    silent |= {"family", "receptive_samples", "trained", "pooled", "repeat_short", "n_features", "source"}
    said = [*embeddings.sentences({key: record}, {})]
    n = 0
    for path in leaves(record):
        if path[0] == "versions" or (path[0] == "model_card" and path[1] in silent):
            continue
        if path[:2] in (("fingerprint", "functionals"), ("fingerprint", "dtype")):
            continue  # the key's own are told
        value, old = copy.deepcopy(record), record
        for part in path:
            old = old[part]
        put(value, path, other(old))
        assert [*embeddings.sentences({key: value}, {})] != said, path
        n += 1
    assert n > 20


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("splits", 0, "split_seed"), 7),
        (("splits", 0, "parts", "train", "rows"), 999),
        (("splits", 0, "parts", "test", "groups"), ["a", "b", "c"]),
        (("splits", 0, "parts", "val", "per_class"), {"new class": 5}),
        (("splits", 0, "rows_left_out"), 17),
        (("splits", 0, "clips"), "another digest"),
        (("splits", 0, "chance"), 0.9),
        (("versions", "scikit-learn"), "0.0.1"),
        (("calls", 0, "config", "controls"), ["group-labels"]),
        (("calls", 0, "config", "curves"), ["groups"]),
    ],
)
def test_every_record_of_the_run_changes_the_words(
    data: ReportData, path: tuple[Any, ...], value: Any
) -> None:
    new = words(changed(data, lambda run: put(run, path, value)))
    assert new != words(data)
    shown = value if not isinstance(value, list | dict) else next(iter(value))
    if path[-1] not in ("groups", "chance"):
        assert str(shown) in new


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "value"),
    [("seed", 11), ("classifier", "rf"), ("hparams", '{"max_epochs": 77}'), ("split", "group-kfold:3")],
)
def test_every_setting_of_a_fit_changes_the_words(
    data: ReportData, results: Path, tmp_path: Path, column: str, value: Any
) -> None:
    for path in results.iterdir():
        if path.name != "results.parquet":
            (tmp_path / path.name).symlink_to(path)
    table = pd.read_parquet(results / "results.parquet")
    table.loc[table["classifier"] == "linear", column] = value
    table.to_parquet(tmp_path / "results.parquet", index=False)
    assert words(load_report_data(tmp_path)) != words(data)


def test_the_words_hold_what_was_asked(text: str) -> None:
    for said in ("`soxr_hq`", "16,000 Hz", "repeat to 5000 samples", "windows of 480000 samples",
                 "`group-kfold:4`", "`group held out`", "max_epochs 3", "learning_rate 0.01",
                 "learning_rate 0.001", "seeds `0-1`", "KNeighborsClassifier", "unbiased", "`float32`",
                 "left out, also where they are predicted", "[@holm1979]", "[@bell2002",
                 "[@pedregosa2011"):  # fmt: skip
        assert said in text, said


def test_references_are_those_that_are_named(data: ReportData, text: str) -> None:
    bib = methods_bibtex(methods(data, keys_of(data)))
    named = set(re.findall(r"@([a-z]+\d{4}[a-z0-9]*)", text))
    entries = re.findall(r"^@\w+\{([^,]+),$", bib, re.MULTILINE)
    assert set(entries) == named
    assert len(entries) == len(set(entries))
    assert bib.count("{") == bib.count("}")


def test_all_references_are_whole() -> None:
    for key, reference in REFERENCES.items():
        fields = dict(reference.fields)
        assert {"author", "title", "year"} <= set(fields), key
        assert fields["year"] in reference.short, key
        entry = reference.bibtex(key)
        assert entry.count("{") == entry.count("}"), key
    assert len({r.short for r in REFERENCES.values()}) == len(REFERENCES)
    assert set(TOOLS.values()) <= set(REFERENCES)


def test_every_paper_of_the_catalogue_is_known() -> None:
    from extractors.models.catalogue import CATALOGUE

    for facts in CATALOGUE:
        assert model_keys(facts.source), (facts.model_id, facts.source)


def test_results_of_earlier_versions_say_what_is_not_known(data: ReportData) -> None:
    def forget(run: dict[str, Any]) -> None:
        del run["extractions"]
        for call in run["calls"]:
            call["config"]["store"] = "/nowhere"

    found = changed(data, forget)
    assert keys_of(found).extraction(KEY) is None
    assert f"`{KEY}`, `mfcc/calls` were made is not on record" in methods_markdown(
        methods(found, keys_of(found))
    )


def test_an_older_folder_is_told_by_its_store(data: ReportData) -> None:
    found = changed(data, lambda run: run.pop("extractions"))
    assert keys_of(found).extraction(KEY) == keys_of(data).extraction(KEY) is not None
    # Not where the store's embeddings are made in another way than those that were probed.
    for split in found.run["splits"]:
        split["extraction"] = "0" * 64
    assert keys_of(found).extraction(KEY) is None


@pytest.mark.parametrize("record", [{}, {"fingerprint": None}, {"fingerprint": 3, "model_card": []}])
def test_a_record_that_is_none_is_not_told(data: ReportData, record: Any) -> None:
    assert embeddings.is_whole(data.run["extractions"][KEY])
    assert not embeddings.is_whole(record)


@pytest.mark.parametrize(
    "text_", ["a`b", "``", "</code><script>", "[@holm1979]", "x\ue000\ue002", "a\nb", ""]
)
def test_names_are_text_in_every_form(text_: str) -> None:
    sentence = f"Before {name(text_)} after{cite('holm1979')}."
    page = as_html(sentence)
    assert "<script>" not in page
    assert page.startswith("Before <code>")
    assert page.endswith("</code> after (Holm 1979).")
    plain = as_text(sentence)
    assert "\n" not in plain
    assert plain.endswith("after (Holm 1979).")
    marked = as_markdown(sentence)
    assert marked.endswith("after [@holm1979].")
    fence = re.match(r"Before (`+)", marked)
    assert fence
    assert marked.count(fence[1]) == 2  # nothing inside closes it


def test_the_page_shows_names_as_code() -> None:
    shown = page_context([Paragraph("H", (f"Of {name('<b>')}.",))])["methods"]
    assert shown == [{"heading": "H", "text": "Of <code>&lt;b&gt;</code>."}]
