"""A study beside its paper: the halves, the second-hand values, the sentences, and the files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from studies.paper_table.files import Table, markdown, page, paper_table
from studies.paper_table.halves import Answer, Half, published_name
from studies.paper_table.published import paper
from studies.paper_table.sentences import disagreements
from studies.study_file.reading import read_study
from studies.study_run.facts import facts_of
from tests.miniature_corpora import write_miniature
from tests.models import save_aves, save_ssl
from tests.studies.conftest import fs, words_of

STUDY = """\
store: store.zarr
report: {out: report, published: icassp2025}
corpora:
  calls:
    adapter: imv
    source: imv
    options: {keep_empty: true}
    extract: {segments: librosa}
    labels: [calltype]
models:
  hubert: {model: models/hubert-base-ls960}
  aves: {model: models/aves-base-bio.torchaudio.pt, domain: animal}
  old-hubert: {model: models/hubert-base-ls960, preset: sarkar2025}
  old-aves: {model: models/aves-base-bio.torchaudio.pt, domain: animal, preset: sarkar2025}
extract: {layers: 0, selfcheck: 0}
probings:
  published: {models: [old-hubert, old-aves], classifiers: [lda], split: sarkar2025}
  corrected: {models: [hubert, aves], classifiers: [lda], split: "group-kfold:3"}
contrasts:
  animals: {a: [aves], b: [hubert]}
  published animals: {a: [old-aves], b: [old-hubert]}
"""


def answer(model: str, half: Half, uar_val: float, **changes: str) -> Answer:
    known = {"corpus": "imv", "label": "calltype", "split": "random", "classifier": "mlp"} | changes
    return Answer(
        **known,  # type: ignore[arg-type]
        half=half,
        model=f"{half} {model}",
        published_name=model,
        layers="3",
        uar=1 - uar_val,  # what test says chooses nothing
        uar_val=uar_val,
        interval=None,
        published=(),
    )


def test_published_values_are_those_that_came_to_us_two_where_they_disagree() -> None:
    scores = paper("icassp2025").scores
    assert len(scores) == 12
    assert scores["hubert-base-ls960", "imv", "calltype"] == (0.6435,)
    assert scores["wavlm-base", "abzaliev", "calltype"] == (0.4397, 0.4712)
    two = {model for (model, _, _), values in scores.items() if len(values) == 2}
    assert two == {"wav2vec2-base", "wavlm-base"}
    assert "second-hand" in paper("icassp2025").note


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("facebook/hubert-base-ls960", "hubert-base-ls960"),
        ("/models/wavlm-base", "wavlm-base"),
        ("./aves-base-bio.torchaudio.pt", "aves-base-bio"),
        ("untrained:3:facebook/hubert-base-ls960", "untrained hubert-base-ls960"),
        ("logmel", "logmel"),
    ],
)
def test_weights_have_one_name_wherever_they_lie(spec: str, name: str) -> None:
    assert published_name(spec) == name


def test_halves_that_choose_another_model_are_named_once_with_the_known_reasons() -> None:
    of = paper("icassp2025")
    same = [answer(m, h, v) for h in ("as published", "corrected") for m, v in (("A", 0.8), ("B", 0.7))]
    assert disagreements(same, of) == []
    other = [*same[:3], answer("B", "corrected", 0.9)]
    first, why = disagreements(other, of)
    assert first == (
        "calltype of imv: the halves choose another best model by validation: "
        "as published it is A and corrected it is B."
    )
    assert "docs/as_published.md" in why
    # On a tie both are best, and nothing disagrees.
    assert disagreements([*same[:3], answer("B", "corrected", 0.8)], of) == []
    # A model that one half did not ask, and answers of another split, take no part.
    more = [*same, answer("C", "corrected", 0.99), answer("B", "corrected", 0.99, split="kfold:3")]
    assert disagreements(more, of) == []


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was carried out, on one corpus, with two models in two halves."""
    folder = tmp_path_factory.mktemp("study")
    write_miniature("imv", folder / "imv", {})
    save_ssl(folder / "models/hubert-base-ls960", "hubert", "base", n_blocks=1)
    save_aves(folder / "models", name="aves-base-bio", encoder_num_layers=1)
    file = folder / "study.yaml"
    file.write_text(STUDY, "utf-8")
    result = fs("study", "run", file, "--quiet")
    assert result.exit_code == 0, result.output
    assert "beside the paper: " in words_of(result.output)
    return file


@pytest.mark.slow
def test_both_halves_stand_beside_what_was_published(done: Path) -> None:
    report = done.parent / "report"
    found = pd.read_csv(report / "published.csv").set_index(["half", "published_name"]).sort_index()
    layers = pd.read_csv(report / "layers.csv").set_index("model")
    models = {"as published": ("old-aves", "old-hubert"), "corrected": ("aves", "hubert")}
    for half, names in models.items():
        for name, of_paper in zip(names, ("aves-base-bio", "hubert-base-ls960"), strict=True):
            row = found.loc[half, of_paper]
            assert row["model"] == name
            for ours, theirs in (("uar_test", "uar_test_mean"), ("ci_low", "ci_low"), ("ci_high", "ci_high")):
                assert row[ours] == pytest.approx(layers.loc[name, theirs], nan_ok=True)
            assert row["published_uar"] == {"aves-base-bio": 0.6254, "hubert-base-ls960": 0.6435}[of_paper]
    assert len(found) == 4
    # One sentence for each of the paper's questions, then the contrasts of their halves.
    text = (report / "published.md").read_text("utf-8")
    assert (
        text.count("Does pre-training on animal sounds beat pre-training on speech? As published, of 1 c")
        == 1
    )
    assert "; corrected, of 1 comparison: " in text
    assert (
        "Does fine-tuning for speech recognition help? As published, nothing was compared; corrected, "
        in text
    )
    assert text.count("- as published, calltype · calls") == text.count("- corrected, calltype · calls") == 1
    # What is there is not made again; what is missing is.
    assert fs("study", "run", done, "--quiet").output.startswith("nothing to do")
    (report / "published.html").unlink()
    (report / "published.csv").unlink()
    (report / "published.md").write_text("a page of my own")
    result = fs("study", "run", done, "--quiet")
    assert result.exit_code == 2
    assert "published.md: this is no table of ours" in words_of(result.output)
    (report / "published.md").unlink()
    assert fs("study", "run", done, "--quiet").exit_code == 0
    assert (report / "published.html").is_file()


@pytest.mark.slow
def test_names_are_never_markup(done: Path) -> None:
    file = read_study(done)
    facts = {name: facts_of(file, name) for name in file.study.models}
    made = paper_table(file, facts, "icassp2025")
    made.tables.append(Table(title="<b>x</b>", heads=["a|b"], rows=[["*c*"]]))
    assert "&lt;b&gt;x" in page(made)
    assert "| a\\|b |" in markdown(made)
    assert "| \\*c\\* |" in markdown(made)
