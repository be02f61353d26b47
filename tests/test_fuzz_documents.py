"""Documents of others, damaged in every way: an answer or one line, quickly, and never more.

A function for each kind of document; `SAMPLE` of each in the default suite, `ALL` in slow runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from safetensors.numpy import save

from cli import main
from extractors.models.registry import find_model
from extractors.models.weights import weight_files
from extractors.run.reproduction import same_extraction
from featurestore.calls import BESIDE_SUFFIX, check_beside, describe_table, write_beside
from featurestore.compute.batch_system import read_cluster_file
from featurestore.fingerprint import digest
from featurestore.untrusted.tensor_files import read_tensor_header
from probes.questions.grid_file import read_grid
from probes.report.caveats import warnings_of
from probes.report.data import load_report_data
from probes.report.reproduction import Reproduction
from probes.report.run_info import run_info
from probes.report.tables import csv_table, terminal_tables
from probes.results import results_folder
from probes.results.split_files import file_name, kept_split, read_split
from probes.saved.prediction_intervals import interval_rule
from probes.saved.probe_files import (
    CONTENT_HASH,
    FORMAT_VERSION,
    JSON_NAME,
    WEIGHTS_HASH,
    WEIGHTS_NAME,
    read_probe,
)
from studies.detection.request import DetectRequest, make_plan
from tests.fuzz import VALUES, Damaged, changed, flipped, require_answer_or_one_line
from tests.models import save_ast, save_aves, save_ssl, save_w2v_bert, save_whisper
from tests.probes.report_results import write_results

SAMPLE, ALL = 15, 400
amounts = pytest.mark.parametrize("n", [SAMPLE, pytest.param(ALL, marks=pytest.mark.slow)])


def damaged_json(document: Any, n: int, *, rehash: Callable[[Any], Any] | None = None) -> Iterator[Damaged]:
    """Flips of its text, and changes of structure; `rehash` renews what vouches for the content."""
    rng = random.Random(n)
    yield from flipped(json.dumps(document).encode(), rng, n)
    yield from changed(document, rng, n, lambda d: json.dumps(d if rehash is None else rehash(d)))


def reading(path: Path, read: Callable[[], Any]) -> Callable[[bytes], Any]:
    def put_and_read(data: bytes) -> Any:
        path.write_bytes(data)
        return read()

    return put_and_read


# --- saved probes ---


def saved_probe(folder: Path) -> dict[str, Any]:
    """A linear probe of four features and three classes; returns its JSON."""
    rng = np.random.default_rng(0)
    arrays = {
        "probe.linear.0.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "probe.linear.0.bias": np.zeros(3, np.float32),
        "standardiser.mean": np.zeros(4, np.float32),
        "standardiser.scale": np.ones(4, np.float32),
        "validation.scores": np.full((5, 3), 1 / 3, np.float32),
        "validation.target": np.arange(5, dtype=np.int32) % 3,
    }
    weights = save(arrays)
    content: dict[str, Any] = {
        "format": "featurestore-audio probe", "format_version": FORMAT_VERSION, "model": "m", "dataset": "d",
        "extraction": {"functionals": ["mean"], "input": {"normalisation": "none"}},
        "given": {"model": "mfcc", "functionals": ["mean"], "dtype": "float32", "window_s": 2.0},
        "layers": [0], "combine": "each", "label": "l", "classes": ["a", "b", "c"], "multilabel": False,
        "classifier": "linear", "hparams": {"learning_rate": 0.001}, "seed": 0, "split": ["random", 0, 0],
        "question": "q", "scores": {"uar_val": 0.5}, "reproduced": {"n_test": 3, "n_differ": 0},
        "kind": "mlp", "settings": {"sizes": [4, 3]}, "probabilistic": True, "versions": {"numpy": "2"},
        "calibration": {"temperature": 1.5, "nll_before": 1.2, "nll_after": 1.1, "n_rows": 5}, "clip_s": 0.5,
        "refit": {"rows": "train+val", "n_rows": 9, "of": "f", "n_epochs": 3, "score_test": 0.5},
        WEIGHTS_HASH: hashlib.sha256(weights).hexdigest(),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS_NAME).write_bytes(weights)
    (folder / JSON_NAME).write_text(json.dumps(rehash(content)))
    return rehash(content)


def saved_probe_of_numbers(folder: Path) -> dict[str, Any]:
    """The same of one number, which keeps what it said of five clips of three groups."""
    content = saved_probe(folder)
    rng = np.random.default_rng(0)
    weights = save(
        {
            "probe.linear.0.weight": rng.standard_normal((1, 4)).astype(np.float32),
            "probe.linear.0.bias": np.zeros(1, np.float32),
            "standardiser.mean": np.zeros(4, np.float32),
            "standardiser.scale": np.ones(4, np.float32),
            "validation.predicted": rng.standard_normal(5),
            "validation.target": rng.standard_normal(5),
            "validation.group": np.array([0, 0, 1, 1, 2], dtype=np.int32),
        }
    )
    content |= {
        "classes": [], "probabilistic": False, "calibration": {}, "settings": {"sizes": [4, 1]},
        "numbers": {"mean": 3.0, "scale": 2.0, "n_groups_trained": 1},
        WEIGHTS_HASH: hashlib.sha256(weights).hexdigest(),
    }  # fmt: skip
    del content["refit"]
    (folder / WEIGHTS_NAME).write_bytes(weights)
    (folder / JSON_NAME).write_text(json.dumps(rehash(content)))
    return content


def rehash(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    rest = {k: v for k, v in content.items() if k != CONTENT_HASH}
    try:
        return {**rest, CONTENT_HASH: digest(rest)}
    except (ValueError, RecursionError):
        return content


@amounts
def test_probe_json(tmp_path: Path, n: int) -> None:
    content = saved_probe(tmp_path)
    x = np.ones((2, 4), np.float32)

    def read() -> Any:
        return read_probe(tmp_path).scores(x).tolist(), read_probe(tmp_path).card.classes

    def plan_detection() -> Any:
        request = DetectRequest(probe=tmp_path, recordings=(tmp_path,), out=tmp_path / "o", precision=0.3)
        plan = make_plan(request, read_probe(tmp_path))
        return plan.decides("mix"), plan.grid.count(48_000, 16_000)

    intact = read()
    plan_detection()
    file = tmp_path / JSON_NAME
    flips = flipped(file.read_bytes(), random.Random(n), n)
    require_answer_or_one_line(flips, reading(file, read), intact)
    # by somebody who made the hash anew
    forged = changed(content, random.Random(n), n, lambda d: json.dumps(rehash(d)))

    def use() -> Any:
        card = read_probe(tmp_path).card
        read()
        plan_detection()
        made = {"manifest": Path("m.csv"), "store": "s", "dataset": "d", "name": card.model, "layers": "0"}
        return same_extraction(card.extraction, card.given, **made)  # type: ignore[arg-type]

    n_read, n_refused = require_answer_or_one_line(forged, reading(file, use))
    assert n_refused > n_read


@amounts
def test_probe_of_numbers(tmp_path: Path, n: int) -> None:
    content = saved_probe_of_numbers(tmp_path)
    x = np.ones((2, 4), np.float32)

    def use() -> Any:
        probe = read_probe(tmp_path)
        ends = interval_rule(probe, 0.5, tmp_path).ends(probe.predict(x))
        return [values.tolist() for values in ends]

    intact = use()
    for name in (JSON_NAME, WEIGHTS_NAME):
        whole = (tmp_path / name).read_bytes()
        require_answer_or_one_line(flipped(whole, random.Random(n), n), reading(tmp_path / name, use), intact)
        (tmp_path / name).write_bytes(whole)
    made = changed(content, random.Random(n), n, lambda d: json.dumps(rehash(d)))
    require_answer_or_one_line(made, reading(tmp_path / JSON_NAME, use))
    (tmp_path / JSON_NAME).write_text(json.dumps(rehash(content)))
    weights = (tmp_path / WEIGHTS_NAME).read_bytes()

    def forge(data: bytes) -> Any:
        card = {**content, WEIGHTS_HASH: hashlib.sha256(data).hexdigest()}
        (tmp_path / JSON_NAME).write_text(json.dumps(rehash(card)))
        return reading(tmp_path / WEIGHTS_NAME, use)(data)

    require_answer_or_one_line(flipped(weights, random.Random(n + 1), n), forge)


@amounts
def test_probe_weights(tmp_path: Path, n: int) -> None:
    content = saved_probe(tmp_path)
    x = np.ones((2, 4), np.float32)
    file = tmp_path / WEIGHTS_NAME
    whole = file.read_bytes()

    def read() -> Any:
        return read_probe(tmp_path).scores(x).tolist()

    intact = read()
    n_read, _ = require_answer_or_one_line(flipped(whole, random.Random(n), n), reading(file, read), intact)
    assert n_read == 0

    def forge(data: bytes) -> Any:
        card = {**content, WEIGHTS_HASH: hashlib.sha256(data).hexdigest()}
        (tmp_path / JSON_NAME).write_text(json.dumps(rehash(card)))
        found = reading(file, read)(data)
        assert np.isfinite(found).all()
        return found

    require_answer_or_one_line(flipped(whole, random.Random(n + 1), n), forge)
    n_header = int.from_bytes(whole[:8], "little")
    header, tensors = json.loads(whole[8 : 8 + n_header]), whole[8 + n_header :]

    def dump(new: Any) -> str:
        text = json.dumps(new)
        return (len(text).to_bytes(8, "little") + text.encode() + tensors).decode("latin-1")

    heads = (
        Damaged(d.data.decode("utf-8").encode("latin-1"), d.how)
        for d in changed(header, random.Random(n), n, dump)
    )
    require_answer_or_one_line(heads, forge)


# --- results ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with everything in it."""
    out = write_results(tmp_path_factory.mktemp("fuzz") / "r", seeds=(0,))
    run = json.loads((out / results_folder.RUN_NAME).read_text(encoding="utf-8"))
    words = ["extract", "--store", {"slot": "store"}, "--manifest", {"slot": "table"}]
    table = {"path": "/m.csv", "n_rows": 3, "sha256": "0", "is_changed": False}
    made = [*words[:1], "--out", {"slot": "table"}]
    call = {"words": words, "table": {**table, "made_by": ["manifest", *made[1:]]}}
    run["splits"] = run["splits"][:1]
    run["splits"][0]["leakage"] = {
        "of": "x", "notes": ["n"], "complete": True,
        "leaks": [{"kind": "group", "parts": ["train", "test"], "n_shared": 1, "n_rows": 2, "n_of": 3,
                   "examples": ["a"]}],
    }  # fmt: skip
    config = {**run["config"], "grid": {"mlp": {"hidden": [[8]]}}, "split_seed": 0}
    run["calls"] = [{"config": config, "cwd": "/w", "finished": True, "keys": {"_tiny<b>/demo": [call]}}]
    run |= {"untrained": {"other": ["logmel"]}, "replaced": ["once"], "chance": {"demo": 0.25}}
    (out / results_folder.RUN_NAME).write_text(json.dumps(run), encoding="utf-8")
    return out


@amounts
def test_run_json(folder: Path, n: int) -> None:
    from dataclasses import replace

    file = folder / results_folder.RUN_NAME
    whole = file.read_bytes()
    data = load_report_data(folder)

    def read() -> Any:
        run = results_folder.read_run(folder)
        results_folder.answers_of(results_folder.read_results(folder).head(1), run.get("splits", []))
        shown = replace(data, run=run)
        return run_info(shown), warnings_of(shown), Reproduction(folder, run).report()

    read()
    try:
        require_answer_or_one_line(damaged_json(json.loads(whole), n), reading(file, read))
    finally:
        file.write_bytes(whole)


def damaged_tables(table: pd.DataFrame, rng: random.Random, n: int) -> Iterator[Damaged]:
    """Columns dropped, renamed, doubled, emptied, of other kinds and with single odd values."""

    def parquet(changed_table: pd.DataFrame) -> bytes:
        buffer = io.BytesIO()
        changed_table.to_parquet(buffer, index=False)
        return buffer.getvalue()

    cells: list[Any] = [None, -1, 0, 10**12, 2**62, 1.5, -0.5, 1e308, float("nan"), float("inf"), "", "x"]
    cells += ["{", "[1]", "[" * 5000, "\0", "a" * 50_000, True, b"\xff", [1, 2], {"a": 1}]
    ways = [(c, w) for c in table.columns for w in range(2 * len(cells) + 4)]
    for column, way in rng.sample(ways, min(n, len(ways))):
        new = table.copy()
        if way < len(cells):
            new[column] = pd.Series([cells[way]] * len(new), dtype=object)
        elif way < 2 * len(cells):
            values = new[column].astype(object).tolist()
            values[len(values) // 2] = cells[way - len(cells)]
            new[column] = pd.Series(values, dtype=object)
        elif way == 2 * len(cells):
            new = new.drop(columns=column)
        elif way == 2 * len(cells) + 1:
            new = new.rename(columns={column: f"{column}_"})
        elif way == 2 * len(cells) + 2:
            new[column] = pd.Categorical(new[column].astype(str))
        else:
            new = new.head(0)
        try:
            yield Damaged(parquet(new), f"{column}: way {way}")
        except (ValueError, TypeError, OverflowError, ArithmeticError):
            continue  # no table of Arrow's can hold it


@amounts
@pytest.mark.parametrize("kind", ["results", "predictions", "tasks"])
def test_results_tables(folder: Path, n: int, kind: str) -> None:
    names = {"results": results_folder.RESULTS_NAME, "predictions": "_predictions", "tasks": "_tasks"}
    file = folder / names[kind]
    file = file if file.is_file() else sorted(file.glob("*.parquet"))[0]
    whole = file.read_bytes()

    def read() -> Any:
        if kind == "tasks":
            return len(results_folder.consolidate(folder)), results_folder.finished(folder, {"x": ""})
        if kind == "predictions":
            table = results_folder.read_results(folder)
            predictions = results_folder.read_predictions(folder, table)
            return predictions.groupby("target").size().to_dict()
        data = load_report_data(folder)
        csv_table(data), terminal_tables(data, oracle=True)
        return warnings_of(data), run_info(data)

    rng, table = random.Random(n), pd.read_parquet(file)
    few = n // (10 if kind == "results" else 4)  # a report takes its time
    try:
        read()
        require_answer_or_one_line(flipped(whole, rng, few), reading(file, read))
        require_answer_or_one_line(damaged_tables(table, rng, few), reading(file, read))
    finally:
        file.write_bytes(whole)


@amounts
def test_split_files(tmp_path: Path, n: int) -> None:
    described = {"model": "m", "dataset": "d", "label": "l", "split": "random", "split_seed": 0, "fold": 0}
    ids = [f"u{i}" for i in range(6)]
    parts = pd.Categorical(["", "train", "val", "test", "train", "test"])
    table = pd.DataFrame({"utterance_id": ids, "label": list("abcabc"), "group": list("xxyyzz"), "0": parts})
    file = tmp_path / "_splits" / file_name(described)
    file.parent.mkdir()
    table.to_parquet(file, index=False)
    whole = file.read_bytes()

    def read() -> Any:
        kept_split(tmp_path, described)
        return read_split(tmp_path, described)["part"].tolist()

    require_answer_or_one_line(flipped(whole, random.Random(n), n), reading(file, read))
    require_answer_or_one_line(damaged_tables(table, random.Random(n), n), reading(file, read))


@amounts
def test_calls_beside_tables(tmp_path: Path, n: int) -> None:
    table = tmp_path / "m.csv"
    table.write_text("path\na.wav\n")
    write_beside(table, ["manifest", "folder", "/x"])
    file = tmp_path / f"m.csv{BESIDE_SUFFIX}"

    def read() -> Any:
        check_beside(table)
        return describe_table(table, 1).made_by

    documents = damaged_json(json.loads(file.read_text()), 2 * n)
    require_answer_or_one_line(documents, reading(file, read))


# --- settings ---


@amounts
@pytest.mark.parametrize("kind", ["cluster", "grid"])
def test_yaml_settings(tmp_path: Path, n: int, kind: str) -> None:
    document: dict[str, Any]
    if kind == "cluster":
        document = {"cluster": "slurm", "jobs": 2, "cores": 4, "memory": "4GB", "processes": 1}
        document |= {
            "job_script_prologue": ["module load x"],
            "scheduler_options": {"dashboard_address": ":0"},
        }
        document |= {"walltime": "01:00:00", "job_extra_directives": ["--gpus=1"], "queue": "gpu"}
    else:
        document = {"mlp": {"learning_rate": [0.001, 0.01], "hidden": [[64], []], "max_epochs": 5}}
    file = tmp_path / "x.yaml"

    def read() -> Any:
        if kind == "cluster":
            return read_cluster_file(file)
        from probes.questions.tasks import ProbeConfig

        return ProbeConfig(store="s", labels=("l",), out=Path("r"), grid=read_grid(file)).fits()

    text = yaml.safe_dump(document)
    rng = random.Random(n)
    require_answer_or_one_line(flipped(text.encode(), rng, n), reading(file, read))
    n = min(n, 300)  # PyYAML takes 10 µs a character
    require_answer_or_one_line(changed(document, rng, n, json.dumps), reading(file, read))
    laughs = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    odd = [laughs, "[" * 5000, "- " * 3000, "a: !!python/object/apply:os.system [x]", "? [a]\n: b", "&a [*a]"]
    odd += [
        f"a: !!{tag} x" for tag in ("int", "bool", "float", "timestamp", "binary", "set", "omap", "pairs")
    ]
    require_answer_or_one_line((Damaged(t.encode(), t[:30]) for t in odd), reading(file, read))


# --- models ---

MODELS: dict[str, Callable[[Path], Path]] = {
    "hubert": lambda d: save_ssl(d, "hubert", "base", do_normalize=True),
    "wavlm": lambda d: save_ssl(d, "wavlm", "large"),
    "data2vec-audio": lambda d: save_ssl(d, "data2vec-audio", "base"),
    "wav2vec2-bert": save_w2v_bert,
    "whisper": save_whisper,
    "ast": save_ast,
}


@amounts
@pytest.mark.parametrize("family", MODELS)
def test_model_config(tmp_path: Path, n: int, family: str) -> None:
    MODELS[family](tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        file = tmp_path / name
        if not file.exists():
            continue
        whole = file.read_bytes()

        def read() -> Any:
            source = find_model(str(tmp_path))
            return source.card, dict(source.fingerprint())

        require_answer_or_one_line(damaged_json(json.loads(whole), n // 6), reading(file, read))
        file.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("family", MODELS)
def test_models_that_are_made(tmp_path: Path, family: str) -> None:
    """Whatever passes is also made, or refused in one line."""
    MODELS[family](tmp_path)
    file = tmp_path / "config.json"
    document = json.loads(file.read_text())

    def read() -> Any:
        find_model(str(tmp_path)).load("cpu", "fp32")
        return find_model(f"untrained:{tmp_path}").load("cpu", "fp32")

    require_answer_or_one_line(changed(document, random.Random(0), 400, json.dumps), reading(file, read))


@amounts
def test_torchaudio_config(tmp_path: Path, n: int) -> None:
    save_aves(tmp_path)
    (file,) = tmp_path.glob("*.json")
    documents = damaged_json(json.loads(file.read_text()), n)
    require_answer_or_one_line(documents, reading(file, lambda: find_model(str(tmp_path)).card))


@amounts
def test_weight_index_and_header(tmp_path: Path, n: int) -> None:
    (tmp_path / "model-1-of-1.safetensors").write_bytes(save({"a": np.zeros(3, np.float32)}))
    file = tmp_path / "model.safetensors.index.json"
    index = {"metadata": {"total_size": 12}, "weight_map": {"a": "model-1-of-1.safetensors"}}
    documents = damaged_json(index, 3 * n)
    require_answer_or_one_line(documents, reading(file, lambda: weight_files(tmp_path, "m")))
    with open(tmp_path / "model-1-of-1.safetensors", "wb") as sparse:
        sparse.write((1 << 40).to_bytes(8, "little") + b"{}")
        sparse.truncate(1 << 42)
    with pytest.raises(ValueError, match=r"a header of 1,099,511,627,776 bytes"):
        read_tensor_header(tmp_path / "model-1-of-1.safetensors")


# --- the command line ---


@pytest.mark.parametrize("value", [VALUES[i] for i in (0, 6, 13, 22, 28)], ids=range(5))
def test_the_command_line_says_it_in_one_line(tmp_path: Path, folder: Path, value: Any) -> None:
    text = json.dumps({"cluster": value, "mlp": value, "model_type": value, "format": value, "splits": value})
    for name in ("x.yaml", "config.json", JSON_NAME, results_folder.RUN_NAME):
        (tmp_path / name).write_text(text)
    (tmp_path / results_folder.RESULTS_NAME).write_bytes((folder / results_folder.RESULTS_NAME).read_bytes())
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    (tmp_path / "a.wav").write_bytes(b"")
    p = str(tmp_path)
    for words in (
        ["extract", "-m", f"{p}/m.csv", "--dataset", "d", "--store", f"{p}/s", "--model", p],
        ["extract", "-m", f"{p}/m.csv", "--dataset", "d", "--store", f"{p}/s", "--model", "mfcc", "--cluster",
         f"{p}/x.yaml"],
        ["probe", "--store", f"{p}/s", "--label", "l", "--out", f"{p}/o", "--grid", f"{p}/x.yaml"],
        ["predict", "--probe", p, "--manifest", f"{p}/m.csv", "--out", f"{p}/p.csv"],
        ["save-probe", p, "--out", f"{p}/o"],
    ):  # fmt: skip
        done = CliRunner().invoke(main, words)
        assert (done.exit_code, done.output.count("\n")) == (2, 1), (words[0], done.output)
        assert done.output.startswith("error: ")
