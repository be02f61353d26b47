"""What is stored of a clip depends on the clip alone: not on order, units, batches, threads or neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractors.config import configs_of
from extractors.run.extraction import extract_all
from featurestore import open_store
from tests.conftest import write_clips
from tests.models import save_ssl

RELATIVE = 1e-5
# Unsorted, with repeats, below 5,000 samples, and one longer than a window of a second.
LENGTHS = (16_001, 5000, 9001, 31_999, 5000, 9000, 1200, 16_000, 9001, 6100, 7411, 12_345)
MODELS = {"base": ("hubert", "base"), "large": ("wavlm", "large")}
Values = dict[tuple[str, str], np.ndarray]  # model, clip → [layers, functionals, features]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("corpus"), LENGTHS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: str(save_ssl(folder / name, *kind, do_normalize=True)) for name, kind in MODELS.items()}


def run(manifest: Path, store: Path, models: dict[str, str], **options: object) -> Values:
    common = {"manifest": manifest, "dataset": "d", "store": str(store), "selfcheck": 0, "window_s": 1.0}
    extract_all(configs_of(list(models.values()), list(models), **(common | options)))
    out = {}
    for model in models:
        features = open_store(store).features(model, "d")
        values = np.stack([features.layer(k).numpy() for k in features.layers], axis=1)
        for utterance, value in zip(features.index["utterance_id"], values, strict=True):
            out[model, utterance] = value
    return out


@pytest.fixture(scope="module")
def reference(corpus: Path, models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Values:
    """One clip a batch, in the order of the files, one thread."""
    values = run(corpus, tmp_path_factory.mktemp("alone"), models, batch_seconds=0.001, workers=1)
    assert len(values) == len(LENGTHS) * len(models)
    return values


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_but_the_clip_decides_its_values(
    corpus: Path,
    models: dict[str, str],
    reference: Values,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    table = pd.read_csv(corpus)
    # Some of the clips, in any order.
    chosen = data.draw(st.lists(st.sampled_from(range(len(table))), min_size=2, unique=True), label="clips")
    manifest = corpus.parent / "chosen.csv"
    table.iloc[chosen].to_csv(manifest, index=False)
    found = run(
        manifest,
        tmp_path_factory.mktemp("store"),
        models,
        unit_rows=data.draw(st.integers(1, 13), label="unit_rows"),
        batch_seconds=data.draw(st.sampled_from([0.1, 0.7, 1.9, 4.1, 60.0]), label="batch_seconds"),
        workers=data.draw(st.integers(1, 4), label="workers"),
    )
    assert len(found) == len(chosen) * len(models)
    require_equal(found, reference)


@pytest.mark.slow
@pytest.mark.parametrize(("unit_rows", "batch_seconds", "workers"), [(5, 1.9, 3), (1, 0.1, 2), (13, 60.0, 1)])
def test_nor_do_decoder_processes(
    corpus: Path,
    models: dict[str, str],
    reference: Values,
    tmp_path: Path,
    unit_rows: int,
    batch_seconds: float,
    workers: int,
) -> None:
    how = {"unit_rows": unit_rows, "batch_seconds": batch_seconds, "workers": workers, "decode": "processes"}
    found = run(corpus, tmp_path, models, **how)
    assert found.keys() == reference.keys()
    require_equal(found, reference)


def require_equal(found: Values, reference: Values) -> None:
    for key, values in found.items():
        expected = reference[key]
        scale = np.abs(expected).max(axis=(1, 2), keepdims=True)  # of each layer
        assert (np.abs(values - expected) / scale).max() < RELATIVE, key
