"""An answer is to the question it names: groups, labels and clips that change between calls."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from recordings import write_recordings

from probes import read_predictions, read_results
from probes.metrics import uar
from probes.report import load_report_data
from probes.report.html import render_page
from probes.report.run_info import run_info
from tests.command_line import fs, one_line_error
from tests.test_cli import extract

TIMES = ["fit_s", "finished_at"]
BY_BIRD, BY_RECORDING = "group-kfold:4[bird]", "group-kfold:4[path]"


class Birds:
    """A corpus, its manifest and store, and one folder of results."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.out = root, root / "s", root / "r"
        self.table = write_recordings(root)
        self.embed()

    def write(self) -> Path:
        self.table.to_csv(self.root / "manifest.csv", index=False)
        return self.root / "manifest.csv"

    def embed(self, *more: object) -> None:
        result = extract(self.write(), self.store, "--selfcheck", "0", *more)
        assert result.exit_code == 0, result.output

    def attach(self) -> None:
        assert fs("manifest", "attach", self.store, self.write()).exit_code == 0

    def probe(self, *more: object) -> Result:
        return fs("probe", "--store", self.store, "--classifier", "lda", "--out", self.out, "-q", *more)

    def ask(self, *more: object) -> str:
        """Everything that a call says, on one line, without table borders."""
        result = self.probe(*more)
        assert result.exit_code == 0, (result.output, result.exception)
        return " ".join(result.output.split())

    def both(self) -> str:
        """Calls with birds held out, birds with recordings held out."""
        split = ("--split", "group-kfold:4")
        return self.ask("--label", "call", "--group", "bird", *split) + self.ask(
            "--label", "bird", "--group", "path", *split
        )

    def page(self) -> str:
        text = re.sub(r"<script>.*?</script>|<style>.*?</style>|<[^>]+>", " ", self.html(), flags=re.DOTALL)
        return " ".join(text.split())

    def html(self) -> str:
        return render_page(load_report_data(self.out))


@pytest.fixture
def birds(tmp_path: Path) -> Birds:
    return Birds(tmp_path)


@pytest.mark.slow
def test_the_path_of_a_new_user(birds: Birds, tmp_path: Path) -> None:
    """Two labels with different groups from one manifest; then what happens to any corpus happens to it."""
    said = birds.both()
    assert "call · d · lda · split: group-kfold:4[bird]" in said
    assert "bird held out: 4 groups; 80 test clips" in said
    assert "recording (path) held out: 16 groups; 80 test clips" in said
    assert "replaced" not in said
    table, birds_of = read_results(birds.out), birds.table.set_index("utterance_id")["bird"]
    assert set(table["split"]) == {BY_BIRD, BY_RECORDING}
    for row in table.itertuples():
        found = read_predictions(birds.out, table[table["fingerprint"] == row.fingerprint])
        assert uar(found["target"], found["prediction"]) == pytest.approx(row.uar_test)
        tested = set(birds_of[found["utterance_id"]])
        assert len(tested) == (1 if row.split == BY_BIRD else len(tested))
        assert set(found["group"]) == (tested if row.split == BY_BIRD else set(found["group"]))

    # a label is corrected
    n = len(table[table["split"] == BY_BIRD])
    at = birds.table.index[birds.table["call"] == "trill"][0]
    birds.table.loc[at, "call"] = "harmonic"
    birds.attach()
    said = birds.both()
    assert (
        f"call · d · split: {BY_BIRD}: label call changed in 1 row since; {n} answers of logmel are" in said
    )
    assert "bird · d" not in said.split("are replaced")[0]  # birds are who they were
    assert f"{n} fits there already" in said

    # two more recordings of each bird
    birds.table = pd.concat([birds.table, write_recordings(birds.root, 2, first=4)], ignore_index=True)
    birds.embed()
    said = birds.both()
    assert f"call · d · split: {BY_BIRD}: 40 rows added since; {n} answers of logmel are replaced" in said
    assert f"bird · d · split: {BY_RECORDING}: 40 rows added" in said
    assert "bird held out: 4 groups; 120 test clips" in said
    assert "recording (path) held out: 24 groups; 120 test clips" in said

    # a boundary is moved: other audio under the same name
    birds.table.loc[3, "end_s"] -= 0.05
    birds.embed("--refresh")
    said = birds.both()
    assert f"{BY_BIRD}: the audio of some rows changed since; {n} answers of logmel are replaced" in said

    # every number says what it is of
    table = read_results(birds.out)
    assert len(table) == 2 * n
    page = birds.page()
    assert page.count("Bird held out: 4 groups; 120 test clips.") == 2  # the answer, and class by class
    assert page.count("Recording (path) held out: 24 groups; 120 test clips.") == 2
    assert f"{BY_BIRD} (bird held out)" in page
    assert "label call changed in 1 row since" in page
    assert "≠" not in page
    assert fs("report", birds.out, "--out", tmp_path / "page").exit_code == 0
    csv = pd.read_csv(tmp_path / "page" / "layers.csv").set_index("split")
    assert csv.loc[BY_BIRD, "held_out"] == "bird held out"
    assert csv[["n_test", "n_groups_all", "n_groups_tested"]].to_numpy().tolist() == [
        [120, 24, 24],
        [120, 4, 4],
    ]

    # and can be made again from what the page says
    for command in run_info(load_report_data(birds.out))["commands"][:-1]:
        words = shlex.split(command.replace("\\\n", " "), comments=True)
        if "probe" not in words:
            continue  # what was embedded is there
        words = words[words.index("probe") :]
        words[words.index("--out") + 1] = str(tmp_path / "again")
        words[words.index("--store") + 1] = str(birds.store)
        assert fs(*words).exit_code == 0
    again = read_results(tmp_path / "again")
    pd.testing.assert_frame_equal(again.drop(columns=TIMES), table.drop(columns=TIMES))


@pytest.mark.slow
def test_groups_that_were_replaced_are_told_of(birds: Birds) -> None:
    """`group` was the bird, and is the recording after an attach: another question of the same name."""
    first = birds.ask("--label", "call", "--split", "group-kfold:3")
    assert "group held out: 4 groups; 80 test clips" in first
    birds.ask("--label", "call", "--split", "random")
    before = read_results(birds.out)
    birds.table["group"] = birds.table["path"]
    birds.attach()
    said = birds.ask("--label", "call", "--split", "group-kfold:3")
    assert "split: group-kfold:3: group changed in 80 rows since; 3 answers of logmel are replaced" in said
    assert "group held out: 16 groups; 80 test clips" in said
    assert "group changed in 80 rows since" in birds.page()
    # the clips of a random split stand where they stood; what its predictions say of groups is new
    said = birds.ask("--label", "call", "--split", "random")
    assert "split: random: group changed in 80 rows since; 1 answer of logmel is replaced" in said
    table = read_results(birds.out)
    pick = table["split"] == "random"
    same = before["split"] == "random"
    assert table.loc[pick, "fingerprint"].tolist() == before.loc[same, "fingerprint"].tolist()
    groups = read_predictions(birds.out, table[pick])["group"]
    assert groups.str.endswith(".wav").all()


@pytest.mark.slow
def test_answers_that_are_not_asked_again_are_told_of(birds: Birds) -> None:
    birds.ask("--label", "call", "--split", "group-kfold:3", "--classifier", "centroid")
    birds.table["group"] = birds.table["path"]
    birds.attach()
    said = birds.ask("--label", "call", "--split", "group-kfold:3")
    assert "3 answers of logmel are replaced, 3 answers (centroid) that this call does not ask again" in said
    assert set(read_results(birds.out)["classifier"]) == {"lda"}


@pytest.mark.slow
def test_answers_over_other_clips_are_marked(birds: Birds, tmp_path: Path) -> None:
    """Two models, of which one is asked again after the corpus grew."""
    result = fs("extract", "--manifest", birds.write(), "--dataset", "d", "--model", "mfcc", "--store",
                birds.store, "-q")  # fmt: skip
    assert result.exit_code == 0, result.output
    said = birds.ask("--label", "call", "--group", "bird")
    assert "≠" not in said
    birds.table = pd.concat([birds.table, write_recordings(birds.root, 1, first=4)], ignore_index=True)
    birds.embed()
    said = birds.ask("--label", "call", "--group", "bird", "--model", "logmel")
    assert "≠ Not over the same clips, labels or groups as" in said
    assert "25" in said
    assert "test clips 25 20" in said or "test clips 20 25" in said
    page = birds.page()
    assert "≠ Not over the same clips" in page.split("Layer curves")[0]
    assert fs("report", birds.out, "--out", tmp_path / "page").exit_code == 0
    csv = pd.read_csv(tmp_path / "page" / "layers.csv")
    assert sorted(csv["same_clips"]) == [False, True]
    assert sorted(csv["n_test"]) == [20, 25]


@pytest.mark.slow
def test_several_groups_are_several_splits(birds: Birds) -> None:
    said = birds.ask("--label", "call", "--group", "group", "--group", "bird", "--group", "path")
    table = read_results(birds.out)
    assert sorted(table["split"]) == ["group", "group[bird]", "group[path]"]  # without --split: group
    for words in ("group held out: 4 groups, 1 tested", "bird held out: 4 groups, 1 tested"):
        assert words in said
    # the very same groups, the very same parts: plain `group` stays the fingerprint that it was
    plain, named = (table[table["split"] == s].iloc[0] for s in ("group", "group[bird]"))
    assert plain["uar_test"] == named["uar_test"]
    assert plain["fingerprint"] != named["fingerprint"]
    saved = fs("save-probe", birds.out, "--split", "group[path]", "--out", birds.root / "p")
    assert saved.exit_code == 0, saved.output
    assert "split group[path]: recording (path) held out" in saved.output


@pytest.mark.slow
def test_the_groups_of_files_stay_when_the_corpus_moves(birds: Birds) -> None:
    birds.ask("--label", "call", "--group", "path")
    table = read_results(birds.out)
    assert read_predictions(birds.out, table)["group"].str.fullmatch(r"c\dr\d+\.wav").all()
    (birds.root / "audio").rename(birds.root / "elsewhere")
    moved = birds.table.assign(path=birds.table["path"].str.replace("audio/", "elsewhere/"))
    moved.to_csv(birds.root / "moved.csv", index=False)
    assert fs("manifest", "attach", birds.store, birds.root / "moved.csv").exit_code == 0
    said = birds.ask("--label", "call", "--group", "path")
    assert "1 fit there already" in said
    assert "replaced" not in said


def test_a_label_that_is_the_group_is_told_what_helps(birds: Birds) -> None:
    for split in ("group", "group-kfold:3", "group-kfold:3[bird]", "logo"):
        result = birds.probe("--label", "bird", "--split", split)
        one_line_error(result, "bird is the group", "hold recordings out: --group path")
        assert not birds.out.exists()
    one_line_error(birds.probe("--label", "bird"), "bird is the group; hold recordings out: --group path")
    one_line_error(birds.probe("--label", "bird", "--group", "bird"), "hold recordings out: --group path")
    assert "bird is the group" not in birds.ask("--label", "bird", "--group", "path")


def test_a_split_that_holds_no_recording_out_says_so(birds: Birds) -> None:
    said = birds.ask("--label", "bird", "--split", "random")
    assert "bird is the group, which split 'random' holds none of out" in said
    assert "hold recordings out: --group path" in said
    assert "from a file that train has too" in said
    assert "of a group that train has too" not in said  # every bird that is tested has to be trained
    assert "clips held out at random; " in said


def test_wrong_groups_are_one_line(birds: Birds) -> None:
    call = ("--label", "call")
    one_line_error(birds.probe(*call, "--group", "brid"), "--group 'brid'", "did you mean 'bird'?")
    one_line_error(birds.probe(*call, "--group", "start_s"), "no such column of groups")
    one_line_error(birds.probe(*call, "--group", "call"), "call is the group")
    line = "split 'random' holds no groups out; those that do are group, stratified-group"
    one_line_error(birds.probe(*call, "--group", "bird", "--split", "random"), "--group bird", line)
    one_line_error(birds.probe(*call, "--group", "bird", "--split", "nested:3"), "group-nested:K")
    one_line_error(birds.probe(*call, "--group", "bird", "--split", "logo[path]"), "names its groups already")
    one_line_error(birds.probe(*call, "--group", ""), "--group")
    birds.table["site"] = np.where(np.arange(len(birds.table)) < 12, "", "north")
    birds.attach()
    line = "needs a group for every row, 12 have none (such as 'c1r00"
    one_line_error(birds.probe(*call, "--group", "site"), line, "fill the manifest's column 'site'")
    birds.table["site"] = "north"
    birds.attach()
    one_line_error(birds.probe(*call, "--group", "site"), "needs at least 3 groups, found 1", "--group path")
    assert not birds.out.exists()


@pytest.mark.slow
def test_a_saved_probe_says_what_changed(birds: Birds) -> None:
    birds.ask("--label", "call", "--group", "bird")
    kept = birds.table.copy()

    def refused(*parts: str) -> None:
        birds.attach()
        result = fs("save-probe", birds.out, "--out", birds.root / "p")
        one_line_error(result, "changed since this probe was fitted", *parts)

    birds.table.loc[[0, 7], "call"] = "other"
    refused("label call changed in 2 rows")
    birds.table = kept.assign(bird=kept["bird"].replace({"bird-0": "bird-1", "bird-1": "bird-0"}))
    refused("bird changed in 40 rows")
    birds.table = pd.concat([kept, write_recordings(birds.root, 1, first=4)], ignore_index=True)
    birds.embed()
    refused("20 rows added")


def test_chance_is_among_what_the_probe_can_say(birds: Birds) -> None:
    """Folds that test two of four birds: guessing among four is right in a quarter of each."""
    number = birds.table["bird"].str[-1].astype(int)
    recording = birds.table["path"].str[-5].astype(int)
    birds.table["day"] = [f"{b % 2}{r % 3}" for b, r in zip(number, recording, strict=True)]
    birds.attach()
    said = birds.ask("--label", "bird", "--group", "day", "--split", "logo")
    table = read_results(birds.out)
    tested = read_predictions(birds.out, table).groupby("fingerprint")["target"].nunique()
    assert set(tested) == {2}
    assert np.allclose(table["chance"], 0.25)
    majority = 1 / tested[table["fingerprint"]].to_numpy()
    assert all(m in (0.0, pytest.approx(k)) for m, k in zip(table["majority_uar"], majority, strict=True))
    assert "chance 25.0 (always the most frequent class: UAR " in said


@pytest.mark.slow
def test_results_of_before_are_read(birds: Birds) -> None:
    """Folders that do not say what their answers are about: unknown is not taken for equal, nor for other."""
    asked = ("--label", "call", "--split", "group-kfold:3")
    birds.ask(*asked)
    now = read_results(birds.out)
    for path in (birds.out / "results.parquet", *(birds.out / "_tasks").iterdir()):
        old = pd.read_parquet(path).drop(columns=["clips", "majority_uar"]).assign(chance=0.9)
        old.to_parquet(path)
    for path in (birds.out / "_splits").iterdir():
        pd.read_parquet(path).drop(columns=["label", "group"]).to_parquet(path)
    run = json.loads((birds.out / "_run.json").read_text())
    for split in run["splits"]:
        del split["clips"], split["extraction"]
    for config in (run["config"], *(call["config"] for call in run["calls"])):
        del config["groups"]
    (birds.out / "_run.json").write_text(json.dumps(run))
    (question,) = load_report_data(birds.out).questions
    expected = now[["chance", "majority_uar"]].mean()
    assert question.chance == pytest.approx(expected["chance"])  # counted anew, from what the parts hold
    assert question.majority[0] == pytest.approx(expected["majority_uar"])
    assert str(question.scope) == "group held out: 4 groups"
    said = birds.ask(*asked)
    assert "3 fits there already" in said
    assert "replaced" not in said
    assert len(json.loads((birds.out / "_run.json").read_text())["calls"]) == 1


@pytest.mark.slow
def test_the_reason_that_a_folder_of_before_cannot_tell(birds: Birds) -> None:
    asked = ("--label", "call", "--split", "group-kfold:3")
    birds.ask(*asked)
    for path in (birds.out / "_splits").iterdir():
        pd.read_parquet(path).drop(columns=["label", "group"]).to_parquet(path)
    birds.table.loc[0, "call"] = "harmonic"
    birds.attach()
    assert "labels, groups or embeddings changed since; 3 answers of logmel are replaced" in birds.ask(*asked)
