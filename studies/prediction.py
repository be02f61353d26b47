"""Label new audio with a saved probe: `predict_manifest` and `predict_store`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import ConfigError, KeyNotFound
from featurestore.manifest.column_names import ANNOTATION_COLUMNS
from featurestore.outputs import check_file, columns_there, put_file, writing
from featurestore.spreadsheet import spreadsheet_csv

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from extractors.results import ExtractProgress
    from featurestore.arrays import FloatArray
    from featurestore.store.reader import Features
    from probes.saved.prediction_intervals import IntervalRule
    from probes.saved.prediction_sets import SetRule
    from probes.saved.probe_files import ProbeCard, SavedProbe

DATASET = "predicted"
SUFFIXES = (".csv", ".parquet")
# Columns of a prediction, before one for each class.
PREDICTION_COLUMNS = ("utterance_id", "path", "start_s", "end_s", "status", "prediction", "probability")
# Behind them where sets were asked for.
SET_COLUMNS = ("set_size", "set")
# The same of numbers: lowest and highest number of an interval.
INTERVAL_COLUMNS = ("prediction_low", "prediction_high")
# Numbers in a unit, all of whose digits are kept.
EXACT_COLUMNS = ("start_s", "end_s", "prediction", *INTERVAL_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was predicted.

    Attributes:
        table: One row per utterance in the order of the manifest: `PREDICTION_COLUMNS`, where sets were asked
            for `SET_COLUMNS` (of numbers `INTERVAL_COLUMNS`), then ``p:CLASS`` for each class
            (``score:CLASS``, and an empty `probability`, where scores are no probabilities; of numbers
            `prediction` is all), then those of `ANNOTATION_COLUMNS` that the manifest has. Rows whose audio
            failed have a status that says why, and no prediction.
        probe: What predicted.
        rule: What made the sets or intervals; None where none were asked for.
    """

    table: pd.DataFrame
    probe: SavedProbe
    rule: SetRule | IntervalRule | None = None


def run_predict(
    folder: Path,
    out: Path,
    *,
    manifest: Path | None = None,
    store: str | None = None,
    model: str | None = None,
    dataset: str | None = None,
    sets: float | None = None,
    on_progress: Callable[[ExtractProgress], None] | None = None,
    **audio: Any,
) -> Predictions:
    """Label a manifest, or what a store holds, and write the table to `out`, a CSV or Parquet file.

    Args:
        folder: A probe of `fs save-probe`.
        out: File to write.
        manifest: New audio.
        store: What is embedded already.
        model: Where the audio model is (manifest), or its name (store).
        dataset: Data set of the store.
        sets: Chance that the set of a clip holds its class (`probes.saved.prediction_sets`), or its interval
            its number (`probes.saved.prediction_intervals`); None: no sets.
        on_progress: Told as clips are embedded.
        audio: ``device``, ``workers``, ``time_expanded`` and ``torch_weights`` of `predict_manifest`.

    Raises:
        ConfigError: not one of `manifest` and `store`; `out` is no place for it, or holds something else;
            before any work.
        UserError: see `predict_manifest` and `predict_store`.
    """
    if (manifest is None) == (store is None):
        raise ConfigError("expected one of --manifest (new audio) and --store (embedded already)")
    if manifest is not None and dataset is not None:
        raise ConfigError("--dataset names a data set of --store; a manifest needs none")
    if manifest is not None and out.resolve() == manifest.resolve():
        raise ConfigError(f"--out {out}: this is the manifest and would be lost; choose another")
    check_file(out)
    _require_replaceable(out, folder)
    if manifest is not None:
        found = predict_manifest(folder, manifest, model=model, sets=sets, on_progress=on_progress, **audio)
    else:
        found = predict_store(folder, str(store), model=model, dataset=dataset, sets=sets)
    write_predictions(found, out)
    return found


def predict_manifest(
    folder: Path,
    manifest: Path,
    *,
    model: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    time_expanded: bool = False,
    torch_weights: bool = False,
    sets: float | None = None,
    on_progress: Callable[[ExtractProgress], None] | None = None,
) -> Predictions:
    """Embed the audio of a manifest as the probe's training data was embedded, and label it.

    Only the layers up to the probe's are computed. The embeddings go to a temporary store.

    Args:
        folder: A probe of `fs save-probe`.
        manifest: What to label.
        model: Where the audio model is; default: where it was.
        device: For the audio model, as `fs extract --device`.
        workers: Threads that decode audio.
        time_expanded: As `fs extract --time-expanded`.
        torch_weights: Also read ``pytorch_model.bin``.
        sets: As of `run_predict`.
        on_progress: Told as clips are embedded.

    Raises:
        FingerprintMismatch: the audio model is another one, or would be used in another way.
        UserError: of the kind that fits, before any weights are loaded.
    """
    from extractors import extract
    from featurestore.store.reader import open_store
    from probes.saved.probe_files import read_probe
    from studies.probe_embedding import probe_extraction

    probe = read_probe(folder)
    card, rule = probe.card, _rule(probe, sets, folder)
    with tempfile.TemporaryDirectory(prefix="fs-predict-") as temporary:
        config = probe_extraction(
            folder,
            card,
            manifest=manifest,
            model=model,
            store=temporary,
            dataset=DATASET,
            device=device,
            workers=workers,
            time_expanded=time_expanded,
            torch_weights=torch_weights,
            **_frame_options(card),
        )
        extract(config, on_progress)
        return _predict(probe, open_store(temporary).features(card.model, DATASET), rule)


def predict_store(
    folder: Path,
    store: str,
    *,
    model: str | None = None,
    dataset: str | None = None,
    sets: float | None = None,
) -> Predictions:
    """Label what a store holds already; no audio is needed.

    Args:
        folder: A probe of `fs save-probe`.
        store: Path or URL.
        model: Name of the model there; default: the probe's.
        dataset: Name of the data set there; may be left out if the model has one only.
        sets: As of `run_predict`.

    Raises:
        KeyNotFound: the store has no such embeddings.
        FingerprintMismatch: they were made in another way than those the probe was trained on.
    """
    from featurestore.store.chosen_keys import chosen_keys
    from featurestore.store.reader import open_store
    from probes.saved.probe_files import read_probe

    probe = read_probe(folder)
    rule = _rule(probe, sets, folder)
    name = model or probe.card.model
    opened = open_store(store)
    keys = chosen_keys(opened.storage, (name,), None if dataset is None else (dataset,))
    datasets = [key.dataset for key in keys.infos]
    if not datasets:
        held = ", ".join("/".join(key) for key in keys.held) or "nothing"
        raise KeyNotFound(
            f"{store}: expected {name}/{dataset or '…'}, it holds {held}; give --model, --dataset"
        )
    if len(datasets) > 1:
        raise ConfigError(f"{store}: {name} has the data sets {', '.join(datasets)}; give --dataset")
    features = opened.features(name, datasets[0])
    probe.require(features.attrs["fingerprint"], f"{store}: {name}/{datasets[0]}")
    return _predict(probe, features, rule)


def write_predictions(found: Predictions, out: Path) -> None:
    """Write the table as CSV or Parquet, by suffix, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    if out.suffix == ".parquet":
        buffer = io.BytesIO()
        found.table.to_parquet(buffer, index=False)
        data = buffer.getvalue()
    else:
        data = spreadsheet_csv(found.table, float_format="%.6g", exact=EXACT_COLUMNS).encode()
    with writing(out, "choose another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        put_file(data, out)


def _require_replaceable(out: Path, folder: Path) -> None:
    """Refuse a name of another kind of table, and a file that is no earlier answer of this kind of probe."""
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if not out.exists():
        return
    from probes.saved.probe_files import read_probe

    columns = columns_there(out)
    if tuple(columns[: len(PREDICTION_COLUMNS)]) != PREDICTION_COLUMNS:
        raise ConfigError(
            f"--out {out}: this file is no table of predictions and would be lost; choose another"
        )
    card = read_probe(folder).card
    of_rule = INTERVAL_COLUMNS if card.is_numbers else SET_COLUMNS
    there = set(columns[len(PREDICTION_COLUMNS) :]) - {*of_rule, *ANNOTATION_COLUMNS}
    new = {f"{_prefix(card)}:{c}" for c in card.classes}
    if there != new:
        odd = sorted(there ^ new)[0]
        raise ConfigError(
            f"--out {out}: holds predictions of other classes, or columns of yours ({odd!r}), which would be "
            "lost; choose another"
        )


def _frame_options(card: ProbeCard) -> dict[str, Any]:
    """Options of extraction for a probe that reads frames: kept as those were that it was trained on."""
    if not card.reads_frames:
        return {}
    return {"frames": True, "frames_dtype": card.settings.get("frames_dtype")}


def _prefix(card: ProbeCard) -> str:
    return "p" if card.probabilistic else "score"


def _rule(probe: SavedProbe, sets: float | None, folder: Path) -> SetRule | IntervalRule | None:
    """How sets, or of numbers intervals, are made that were asked for.

    Raises:
        ConfigError: the probe cannot say it at this level.
    """
    from probes.saved.prediction_intervals import interval_rule
    from probes.saved.prediction_sets import set_rule

    if sets is None:
        return None
    return (interval_rule if probe.card.is_numbers else set_rule)(probe, sets, folder)


def _predict(probe: SavedProbe, features: Features, rule: SetRule | IntervalRule | None) -> Predictions:
    import numpy as np

    from featurestore.format.row_arrays import STATUS_OK
    from featurestore.layer_list import format_layers
    from probes.saved.prediction_intervals import IntervalRule

    card = probe.card
    lacking = set(card.layers) - set(features.layers)
    if lacking:
        raise KeyNotFound(
            f"{features.storage.url}: {features.info.path} lacks layer {format_layers(lacking)}, which the "
            f"probe needs; extract with --layers {format_layers(card.layers)}"
        )
    if card.reads_frames and features.info.frames is None:
        raise ConfigError(
            f"{features.storage.url}: {features.info.path} holds no frames, which a probe of "
            f"{card.classifier} reads; extract with --frames under another --name, and give that as --model"
        )
    index = features.index
    ok = (index["status"] == STATUS_OK).to_numpy()
    dtype = np.float64 if card.is_numbers else np.float32
    scores = np.full((len(index), card.n_scores), np.nan, dtype=dtype)
    layers = [features.layer(layer) for layer in card.layers]
    for shard in layers[0].shards:
        # Shard by shard: a layer may be larger than memory.
        where = shard.start + np.flatnonzero(ok[shard])
        if card.reads_frames and len(where):
            scores[where] = probe.frame_scores(features, where)
        elif len(where):
            x = np.concatenate([layer.sound(where).reshape(len(where), -1) for layer in layers], axis=1)
            scores[where] = probe.scores(x)
    table = index[["utterance_id", "path", "start_s", "end_s", "status"]].copy()
    if card.is_numbers:
        table["prediction"] = scores[:, 0]
    else:
        table["prediction"] = ""
        table.loc[ok, "prediction"] = probe.name(scores[ok])
    prefix = _prefix(card)
    # The probability of one class; a set of labels has none of its own.
    single = card.probabilistic and not card.multilabel
    table["probability"] = scores.max(axis=1) if single else np.nan
    if isinstance(rule, IntervalRule):
        table = table.assign(**dict(zip(INTERVAL_COLUMNS, rule.ends(scores[:, 0]), strict=True)))
    elif rule is not None:
        table = table.assign(**_set_columns(rule, scores, ok, card.classes))
    table = table.assign(**{f"{prefix}:{c}": scores[:, i] for i, c in enumerate(card.classes)})
    kept = [c for c in ANNOTATION_COLUMNS if c in index]
    table = table.assign(**{c: index[c] for c in kept})
    place = {name: i for i, name in enumerate(features.manifest.table["utterance_id"])}
    return Predictions(
        table=table.sort_values("utterance_id", key=lambda c: c.map(place), ignore_index=True),
        probe=probe,
        rule=rule,
    )


def _set_columns(
    rule: SetRule, scores: FloatArray, ok: npt.NDArray[np.bool_], classes: Sequence[str]
) -> dict[str, Any]:
    """Size and classes of each set `[n]`, of scores `[n, C]`; neither of rows without scores."""
    import numpy as np
    import pandas as pd

    from probes.saved.prediction_sets import set_cells

    members = rule.members(scores[ok])
    size = pd.array(np.zeros(len(ok), dtype=np.int64), dtype="Int64")
    size[~ok] = pd.NA
    size[ok] = members.sum(axis=1)
    cells = np.full(len(ok), "", dtype=object)
    cells[ok] = set_cells(members, classes)
    return dict(zip(SET_COLUMNS, (size, cells), strict=True))
