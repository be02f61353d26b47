"""Mistakes in a study file: one line each with its place, all together, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.studies.conftest import STUDY, fs

M = "split: kfold:3"
# What is replaced in STUDY, by what, the line that is named, and what is said.
MISTAKES = {
    "unknown key": (
        "extract: {",
        "extrct: {}\nextract: {",
        9,
        "unknown key 'extrct'; did you mean 'extract'?",
    ),
    "unknown key inside": ("{model: logmel}", "{model: logmel, layer: 0}", 7, "did you mean 'layers'?"),
    "no store": ("store: features.zarr\n", "", 1, "expected a key 'store'"),
    "misspelt model": ("{model: mfcc}", "{model: mfccc}", 8, "did you mean 'mfcc'?"),
    "misspelt hub id": (
        "{model: mfcc}",
        "{model: facebook/hubert-base-ls96}",
        8,
        "did you mean 'facebook/hubert-base-ls960'?",
    ),
    "no such folder": ("{model: mfcc}", "{model: ./models/x}", 8, "there is no such folder"),
    "no such manifest": ("audio/manifest.csv", "audio/manfest.csv", 4, "no such manifest file"),
    "no such label": (
        "[kind]",
        "[knd]",
        5,
        "no such label, its labels are kind, caller; did you mean 'kind'?",
    ),
    "layer beyond": ("{model: mfcc}", "{model: mfcc, layers: 0-3}", 8, "has layers 0-0, there is no 3"),
    "layer not held": ("split: kfold:3", "layers: 5", 13, "none of them"),
    "layers backwards": ("split: kfold:3", "layers: 5-1", 13, "the range 5-1 is empty; write 1-5"),
    "key twice": ("extract: {", "store: other\nextract: {", 9, "stands twice (line 1 has it too)"),
    "name twice": ("  mfcc: {model: mfcc}", "  logmel: {model: mfcc}", 8, "stands twice (line 7 has it too)"),
    "classifier twice": ("[centroid, lda]", "[lda, lda]", 12, "expected each name once, got 'lda' twice"),
    "list for map": ("  main:\n", "  other: [a]\n  main:\n", 11, "expected a map (KEY: VALUE), got a list"),
    "text for list": ("[centroid, lda]", "lda", 12, "expected a list, such as [a, b], got 'lda'"),
    "text for number": ("split: kfold:3", "seeds: three", 13, "expected a whole number, got 'three'"),
    "quoted number": ("split: kfold:3", "seeds: '3'", 13, "expected a whole number, got '3'"),
    "no seeds": ("split: kfold:3", "seeds: 0", 13, "expected at least 1, got 0"),
    "unknown classifier": ("[centroid, lda]", "[centroid, lad]", 12, "got 'lad'; did you mean"),
    "unknown split": ("kfold:3", "kfld:3", 13, "got 'kfld:3'"),
    "unknown control": ("split: kfold:3", "controls: [shufled-labels]", 13, "shufled-labels"),
    "unknown curve": ("split: kfold:3", "curves: [group]", 13, "did you mean 'groups'?"),
    "refit on test rows": ("split: kfold:3", "refit: all", 13, "`fs save-probe --refit all` does that"),
    "unknown refit": ("split: kfold:3", "refit: train", 13, "refit: expected train+val, got 'train'"),
    "shares without a curve": ("split: kfold:3", "curve_shares: [10]", 11, "says how a curve is drawn"),
    "unknown group": ("split: kfold:3", "groups: [caler]", 13, "did you mean 'caller'?"),
    "groups where none are held out": ("split: kfold:3", "split: kfold:3\n    groups: [caller]", 14, "kfold"),
    "grid of another": (
        "split: kfold:3",
        "grid: {mlp: {learning_rate: [1]}}",
        13,
        "classifiers does not name",
    ),
    "unknown setting": ("split: kfold:3", "grid: {lda: {shrinkag: [1]}}", 13, "shrinkag"),
    "wrong dtype": ("unit_rows: 16", "dtype: flot32", 9, "got 'flot32'; did you mean 'float32'?"),
    "unknown functional": ("{model: mfcc}", "{model: mfcc, functionals: [man]}", 8, "got 'man'"),
    "preset against option": (
        "{model: mfcc}",
        "{model: mfcc, preset: sarkar2025, normalise: none}",
        8,
        "leave one of them out",
    ),
    "unknown corpus": ("split: kfold:3", "corpora: [tone]", 13, "no corpus 'tone'; did you mean 'tones'?"),
    "unknown model": ("split: kfold:3", "models: [logml]", 13, "no model 'logml'; did you mean 'logmel'?"),
    "labels of no corpus": ("split: kfold:3", "labels: {tone: [kind]}", 13, "no corpus 'tone'"),
    "manifest and adapter": ("    labels", "    adapter: folder\n    labels", 5, "got both; leave one out"),
    "unknown adapter": (
        "manifest: audio/manifest.csv",
        "adapter: foldr\n    source: audio",
        4,
        "did you mean 'folder'?",
    ),
    "unknown option": (
        "manifest: audio/manifest.csv",
        "adapter: folder\n    source: audio\n    options: {lable: x}",
        6,
        "has no option 'lable'; did you mean 'label'?",
    ),
    "adapter without source": (
        "manifest: audio/manifest.csv",
        "adapter: folder",
        3,
        "expected a key 'source'",
    ),
    "contrast of no model": (
        "extract: {",
        "contrasts:\n  c: {a: {domain: animal}, b: [mfcc]}\nextract: {",
        10,
        "selects no model",
    ),
    "contrast of no such value": (
        "extract: {",
        "contrasts:\n  c: {a: {domain: aminal}, b: [mfcc]}\nextract: {",
        10,
        "did you mean 'animal'?",
    ),
    "contrast with itself": (
        "extract: {",
        "contrasts:\n  c: {a: [mfcc, logmel], b: [mfcc]}\nextract: {",
        10,
        "model 'mfcc' is on both sides",
    ),
    "bad name": ("  tones:", "  my tones:", 3, "try 'my-tones'"),
    "no device": ("unit_rows: 16", "device: cuda:7", 9, "CUDA devices on this machine"),
    "results in a file": ("extract: {", "results: audio/manifest.csv\nextract: {", 9, "expected a folder"),
    "store is a file": ("features.zarr", "audio/manifest.csv", 1, "this is a file"),
    "seeds huge": (M, "seeds: 99999999999", 13, "expected at most 10,000, got 99999999999"),
    "seeds of on": (M, "seeds: on", 13, "expected a whole number, got 'on'"),
    "seeds of no number": (M, "seeds: .nan", 13, "expected a whole number, got nan"),
    "seeds of a power": (M, "seeds: 1e3", 13, "expected a whole number, got 1000.0"),
    "split seed huge": (M, "split_seed: 4294967296", 13, "expected at most 4,294,967,295"),
    "split of a number": (M, "split: 3", 13, "expected a text, got 3"),
    "grid without values": (M, "grid: {lda: {shrinkage: []}}", 13, "setting 'shrinkage' has no values"),
    "grid without settings": (M, "grid: {lda: }", 13, "expected settings of lda, such as"),
    "grid of a date": (M, "grid: {lda: {shrinkage: 2024-01-01}}", 13, "Got '2024-01-01' instead"),
    "grid of no number": (M, "grid: {lda: {shrinkage: [.nan]}}", 13, "Got nan instead"),
    "no labels": (
        "    labels: [kind]\n",
        "",
        10,
        "corpus 'tones' names none; add labels here or to the corpus",
    ),
    "labels of numbers": ("[kind]", "[1]", 5, "expected a text, got 1"),
    "labels of lists": (M, "labels: {tones: [[kind]]}", 13, "for corpus 'tones', got a list in it"),
    "corpus twice": (
        "models:\n",
        "  again: {manifest: audio/../audio/manifest.csv, labels: [caller]}\nmodels:\n",
        6,
        "the same as corpus 'tones' but for labels",
    ),
    "unknown preset": ("unit_rows: 16", "preset: sarkar2024", 9, "did you mean 'sarkar2025'?"),
    "units of too many rows": ("unit_rows: 16", "unit_rows: 9999999", 9, "expected from 1 to 1,048,576"),
    "clips repeated for ever": ("unit_rows: 16", "min_samples: 999999999", 9, "from 1 to 100,000,000"),
    "window of a time": ("unit_rows: 16", "window_s: 1:30", 9, "expected a number, got '1:30'"),
    "channel of a word": (
        "unit_rows: 16",
        "channel: left",
        9,
        "extract.channel: channel: expected mix, each",
    ),
    "no model": ("{model: mfcc}", "", 8, "expected a map (KEY: VALUE), got nothing"),
    "contrast of a text": (
        "extract: {",
        "contrasts: {c: {a: mfcc, b: [logmel]}}\nextract: {",
        9,
        "expected a list of models, or facts such as {domain: animal}, got 'mfcc'",
    ),
    "contrast of a misspelt fact": (
        "extract: {",
        "contrasts: {c: {a: {domian: animal}, b: [logmel]}}\nextract: {",
        9,
        "no model has a fact 'domian'; did you mean 'domain'?",
    ),
    "made from itself": (
        "{model: mfcc}",
        "{model: mfcc, fine_tuned_from: mfcc}",
        8,
        "another model than 'mfcc'",
    ),
    "Cyrillic letter": ("[kind]", "[k\u0456nd]", 5, "did you mean 'kind'? ('\u0456' is CYRILLIC"),
    "name of a folder above": ("  tones:", "  ..:", 3, "store name '..' may hold"),
    "NUL in a text": ("features.zarr", '"a\\0b"', 1, "expected a text without NUL characters"),
    "results in the store": ("extract: {", "results: features.zarr/r\nextract: {", 9, "outside of the store"),
    "no such cluster file": (M, "cluster: jobs.yaml", 13, "cannot read this cluster file: no such file"),
    "scheme unknown": ("features.zarr", "ftp://x/y", 1, "ftp"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(study: Callable[..., Path], name: str) -> None:
    before, after, line, said = MISTAKES[name]
    assert before in STUDY
    file = study(STUDY.replace(before, after, 1), n_clips=6)
    result = fs("study", "run", file)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert all(text.startswith("error: ") for text in lines)
    own = [text for text in lines if text.startswith(f"error: {file}:{line}: ")]
    assert any(said in text for text in own), "\n".join(lines)
    assert not (file.parent / "features.zarr").exists()
    assert not (file.parent / "results").exists()


def test_of_what_is_left_out_nothing_else_is_said(study: Callable[..., Path]) -> None:
    """A list whose one entry is wrong is not called empty too."""
    file = study(STUDY.replace("[kind]", "[1]").replace("  tones:", "  ..:"), n_clips=6)
    lines = fs("study", "run", file).stderr.splitlines()
    assert [line.split(": ")[1].rsplit(":", 1)[1] for line in lines] == ["3", "5"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (STUDY.encode("utf-16"), ":1: expected UTF-8 text, this seems to be UTF-16"),
        (STUDY.encode("utf-16-be"), ":1: expected UTF-8 text, this seems to be UTF-16"),
        (STUDY.encode() + b"\0", ":14: expected UTF-8 text, got other bytes (a NUL byte)"),
        (b"#" * 300_000, ": cannot be read (expected at most 262,144 bytes, it has 300,000)"),
    ],
)
def test_a_file_that_is_no_text_is_one_line(study: Callable[..., Path], data: bytes, said: str) -> None:
    file = study(n_clips=6)
    file.write_bytes(data)
    result = fs("study", "run", file)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {file}{said}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("data", [STUDY.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + STUDY.encode()])
def test_what_windows_writes_is_read(study: Callable[..., Path], data: bytes) -> None:
    file = study(n_clips=6)
    file.write_bytes(data.replace(b"[kind]", b"[knd]"))
    assert fs("study", "run", file).stderr.startswith(f"error: {file}:5: corpora.tones.labels[0]: ")


def test_all_mistakes_are_told_together_in_the_order_of_the_file(study: Callable[..., Path]) -> None:
    text = (
        STUDY.replace("[kind]", "[knd]")
        .replace("mfcc: {model: mfcc}", "mfcc: {model: mfccc, dtyp: x}")
        .replace("[centroid, lda]", "[centroid, lad]\n    seeds: 0")
        .replace("kfold:3", "kfld:3")
    )
    result = fs("study", "run", study(text, n_clips=6))
    lines = result.stderr.splitlines()
    assert result.exit_code == 2
    places = [text.split(": ")[1].rsplit(":", 1)[1] for text in lines]
    assert places == ["5", "8", "8", "12", "13", "14"]


def test_a_mistake_of_the_command_line_is_told_with_its_option(study: Callable[..., Path]) -> None:
    file = study(n_clips=6)
    result = fs("study", "run", file, "--set", "probings.main.seeds=0", "--set", "models.mfcc.model=mfccc")
    assert result.exit_code == 2
    seeds, model = sorted(result.stderr.splitlines(), key=lambda text: "mfccc" in text)
    assert seeds == "error: --set probings.main.seeds=0: probings.main.seeds: expected at least 1, got 0"
    assert model.startswith("error: --set models.mfcc.model=mfccc: models.mfcc.model: 'mfccc': ")
    assert model.endswith("did you mean 'mfcc'?")
    result = fs("study", "run", file, "--only", "model=mfc")
    assert result.stderr == "error: --only model=mfc: no model 'mfc'; did you mean 'mfcc'?\n"
    assert result.exit_code == 2


def test_a_model_that_is_spelt_right_and_cannot_be_had_is_not_suggested(study: Callable[..., Path]) -> None:
    """Without a network the hub gives no model, whatever it is called."""
    file = study(STUDY.replace("{model: mfcc}", "{model: facebook/hubert-base-ls960}"), n_clips=6)
    (line,) = fs("study", "run", file).stderr.splitlines()
    assert line.startswith(f"error: {file}:8: models.mfcc.model: 'facebook/hubert-base-ls960': ")
    assert "the hub gave no such model" in line or "the hub was not reached" in line
    assert "did you mean" not in line


def test_a_folder_is_suggested_as_it_could_be_written(study: Callable[..., Path]) -> None:
    file = study(STUDY.replace("{model: mfcc}", "{model: ./models/hubrt}"), n_clips=6)
    for name in ("hubert", "hubrts"):
        (file.parent / "models" / name).mkdir(parents=True)
    (file.parent / "models/hubert/config.json").write_text("{}")
    (line,) = fs("study", "run", file).stderr.splitlines()
    assert line.endswith("there is no such folder; did you mean './models/hubert'?")


def test_two_probings_of_one_question_are_refused_unless_one_is_part_of_the_other(
    study: Callable[..., Path],
) -> None:
    part = STUDY + "  part:\n    classifiers: [lda]\n    split: kfold:3\n"
    assert fs("study", "run", study(part, n_clips=6), "--dry-run").exit_code == 0
    other = STUDY.replace("[centroid, lda]", "[linear]\n    seeds: 2") + (
        "  part:\n    classifiers: [linear]\n    split: kfold:3\n    grid: {linear: {learning_rate: [0.1]}}\n"
    )
    result = fs("study", "run", study(other, n_clips=6), "--dry-run")
    assert result.exit_code == 2
    assert "asks what probing 'main' asks too" in result.stderr
