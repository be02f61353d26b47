"""A small real store: two models, one data set, three layers of rising quality."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.backends.storage import open_storage
from featurestore.manifest.table import from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.writer import KeyWriter, UnitRows, open_key

N_ROWS = 240
N_FEATURES = 6
CALLS = ("peep", "phee", "trill", "tsik")


def manifest_table(n: int = N_ROWS, seed: int = 0) -> pd.DataFrame:
    """Text cells; the first ten rows have no call, one group per caller and session."""
    rng = np.random.default_rng(seed)
    call = rng.choice(CALLS, n, p=[0.4, 0.3, 0.2, 0.1])
    call[:10] = ""
    caller = rng.integers(0, 6, n)
    return pd.DataFrame(
        {
            "utterance_id": [f"u{i:05d}" for i in range(n)],
            "path": [f"{i}.wav" for i in range(n)],
            "split": "",
            "group": [f"session-{g}" for g in caller],
            "call": call,
            "caller": [f"caller-{c}" for c in caller],
            "species": "marmoset",
        }
    )


def write_made_units(
    writer: KeyWriter, values: Mapping[int, np.ndarray], order: np.ndarray, failed: Collection[int] = ()
) -> None:
    """Write every unit of a key.

    Args:
        writer: of the key.
        values: of each layer, by utterance `[n, functionals, features]`.
        order: utterance of each row of the key.
        failed: utterances without a sound.
    """
    for unit in writer.info.units:
        rows = order[unit.first_row : unit.stop_row]
        writer.write_unit(
            unit,
            [(k, v[rows].astype(np.float32)) for k, v in values.items()],
            UnitRows(
                status=["failed: silent" if r in failed else "ok" for r in rows],
                n_frames=np.full(len(rows), 10),
                duration_s=np.full(len(rows), 0.5),
                audio_hash=[f"hash-{r}" for r in rows],
            ),
            audio_s=1.0,
            elapsed_s=1.0,
            versions={},
        )


def write_store(
    path: Path,
    table: pd.DataFrame,
    *,
    model: str = "model-a",
    dataset: str = "calls",
    layers: tuple[int, ...] = (0, 1, 2),
    failed: tuple[int, ...] = (11, 40),
    order: np.ndarray | None = None,
    revision: int = 1,
    fingerprint: dict[str, object] | None = None,
) -> None:
    """Write values that hold the label `call` more clearly in higher layers."""
    manifest = from_table(table, source="made", base=path, check_files=False)
    n = len(table)
    order = np.arange(n) if order is None else order
    ids = table["utterance_id"].to_numpy(dtype=object)
    request = KeyRequest(
        model=model,
        dataset=dataset,
        fingerprint=fingerprint or {"revision": revision},
        functionals=("mean", "std"),
        layers=layers,
        n_features=N_FEATURES,
        unit_rows=64,
    )
    writer, _ = open_key(open_storage(path), request, manifest, ids[order])
    codes = np.array([(*CALLS, "").index(c) for c in table["call"]])
    values = {}
    for layer in layers:
        rng = np.random.default_rng([layer, len(model)])
        centres = rng.standard_normal((5, 2, N_FEATURES)) * (0.1 + 0.6 * layer)
        values[layer] = centres[codes] + rng.standard_normal((n, 2, N_FEATURES))
        values[layer][list(failed)] = np.nan
    write_made_units(writer, values, order, failed)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Models model-a (layers 0-2) and model-bb (0-1) on the data set "calls"."""
    path = tmp_path_factory.mktemp("store") / "features.zarr"
    write_store(path, manifest_table())
    write_store(path, manifest_table(), model="model-bb", layers=(0, 1))
    return str(path)


@pytest.fixture
def table() -> pd.DataFrame:
    """The utterances of `store`."""
    return manifest_table()


@pytest.fixture(scope="session")
def make_store() -> Callable[..., None]:
    """`write_store`, for tests that need a store of their own."""
    return write_store


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
