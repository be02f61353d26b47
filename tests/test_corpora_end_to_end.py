"""Published layouts in miniature, from the corpus through the store to probes: official folds, task
folders, and selections in long recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from extractors import ExtractConfig, extract
from featurestore.corpora.conversion import ManifestRequest, make_manifest
from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.report import write_report
from probes.results.selection import chosen_fits, pooled_score, summarise

RATE_HZ = 16_000


def tone(seed: int, hz: float, n: int = 8000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(n) / RATE_HZ) + 0.05 * rng.standard_normal(n)).astype(
        np.float32
    )


def write(path: Path, x: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, RATE_HZ)


def through(
    corpus: str, source: Path, tmp_path: Path, **options: object
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results of a probe, and the manifest."""
    label = str(options.pop("label"))
    split = options.pop("split", None)
    manifest = tmp_path / "manifest.csv"
    make_manifest(ManifestRequest(corpus=corpus, source=source, out=manifest, **options))  # type: ignore[arg-type]
    store = str(tmp_path / "store.zarr")
    summary = extract(ExtractConfig(manifest=manifest, dataset=corpus, model="logmel", store=store))
    assert summary.failed == {}
    config = ProbeConfig(
        store=store,
        labels=(label,),
        out=tmp_path / "results",
        classifiers=("lda",),
        split=split,  # type: ignore[arg-type]
    )
    run_probe(config)
    return read_results(tmp_path / "results"), pd.read_csv(manifest, dtype=str, keep_default_na=False)


@pytest.mark.slow
def test_esc_with_its_five_official_folds(tmp_path: Path) -> None:
    pitch = {"dog": 300, "rain": 1500, "rooster": 4000}
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for k, (category, hz) in enumerate(pitch.items()):
            for take in "AB":
                name = f"{fold}-{1000 + 10 * fold + k}-{take}-{k}.wav"
                write(tmp_path / "esc/audio" / name, tone(100 * fold + 10 * k + ord(take), hz))
                lines.append(f"{name},{fold},{k},{category},True,{1000 + 10 * fold + k},{take}")
    (tmp_path / "esc/meta").mkdir()
    (tmp_path / "esc/meta/esc50.csv").write_text("\n".join(lines) + "\n")
    results, manifest = through(
        "esc50", tmp_path / "esc", tmp_path, label="category", split="fold:fold", options={"esc10": True}
    )
    assert results["fold"].tolist() == [0, 1, 2, 3, 4]
    assert results["split"].unique().tolist() == ["fold:fold"]
    assert (results[["n_train", "n_val", "n_test"]] == [18, 6, 6]).all(axis=None)
    predictions = read_predictions(tmp_path / "results", results)
    fold_of = manifest.set_index("utterance_id")["fold"]
    for row in results.itertuples():
        tested = predictions.loc[predictions["fingerprint"] == row.fingerprint, "utterance_id"]
        assert set(fold_of[tested]) == {str(row.fold + 1)}
    (summary,) = summarise(results).to_dict("records")
    assert summary["n_splits"] == 5
    assert summary["uar_test_mean"] == results["uar_test"].mean()
    assert summary["uar_test_std"] == results["uar_test"].std()
    assert pooled_score(predictions, results) > 0.9
    assert sorted(set(chosen_fits(results)["outer"])) == [0, 1, 2, 3, 4]
    record = json.loads((tmp_path / "results/_run.json").read_text())
    # a source clip never straddles the official folds
    assert all(s["leakage"]["leaks"] == [] for s in record["splits"])
    page = write_report(tmp_path / "results", tmp_path / "report").html.read_text(encoding="utf-8")
    assert "mean ± std over 5 folds" in page.lower()
    assert "All test clips pooled:" in page
    assert "fold 4" in page


def test_a_hear_task_with_its_own_parts(tmp_path: Path) -> None:
    root = tmp_path / "tasks/beeps-v1-full"
    for part, n in (("train", 12), ("valid", 4), ("test", 4)):
        names = {}
        for i in range(n):
            label = ("low", "high")[i % 2]
            write(
                root / f"16000/{part}/{part}{i}.wav",
                tone(i + 50 * len(part), 400 if label == "low" else 3000),
            )
            names[f"{part}{i}.wav"] = [label]
        (root / f"{part}.json").write_text(json.dumps(names))
    metadata = {
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "splits": ["train", "valid", "test"],
    }
    (root / "task_metadata.json").write_text(json.dumps(metadata))
    (root / "labelvocabulary.csv").write_text("idx,label\n0,low\n1,high\n")
    results, _ = through("hear", tmp_path, tmp_path, label="label")
    (row,) = results.to_dict("records")
    assert row["split"] == "column"
    assert (row["n_train"], row["n_val"], row["n_test"], row["uar_test"]) == (12, 4, 4, 1.0)


def test_raven_selections_in_long_recordings(tmp_path: Path) -> None:
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tcall\n"
    for night in range(6):
        long = 0.01 * np.random.default_rng(night).standard_normal(60 * RATE_HZ).astype(np.float32)
        lines = []
        for i in range(10):
            start, kind = 5.25 * i + 1, ("phee", "trill")[i % 2]
            call = tone(100 * night + i, 600 if kind == "phee" else 3500)
            first = int(start * RATE_HZ)
            long[first : first + len(call)] += call
            for view in ("Waveform 1", "Spectrogram 1"):
                lines.append(f"{i + 1}\t{view}\t1\t{start}\t{start + 0.5}\t100\t5000\t{kind}\n")
        write(tmp_path / f"raven/night{night}.wav", long)
        (tmp_path / f"raven/night{night}.Table.1.selections.txt").write_text(header + "".join(lines))
    results, manifest = through("raven", tmp_path / "raven", tmp_path, label="call", split="logo")
    assert len(manifest) == 60
    assert len(results) == 6  # each recording is left out once
    assert (results["n_test"] == 10).all()
    assert results["uar_test"].mean() == 1.0
    record = json.loads((tmp_path / "results/_run.json").read_text())
    assert [s["parts"]["test"]["groups"] for s in record["splits"]] == [[f"night{i}"] for i in range(6)]
    assert all(s["leakage"]["leaks"] == [] for s in record["splits"])
