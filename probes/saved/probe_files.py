"""A fitted probe as two files, ``probe.json`` and ``weights.safetensors``, and its predictions.

Nothing is pickled: a probe from anybody can be read without running what it brings. The JSON says what
the embeddings have to be (the whole fingerprint of the extraction), so that a probe is never asked about
vectors it was not made for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch, StoreError, UnknownFormat
from featurestore.fingerprint import diff, digest
from featurestore.outputs import put_file, writing
from featurestore.printable import json_text
from featurestore.untrusted.document_shape import (
    anything,
    by_name,
    fields,
    many,
    nothing_or,
    number,
    one_of,
    row_of,
    text,
    whole,
    yes_or_no,
)
from featurestore.untrusted.documents import DocumentError, read_bytes, read_json_document
from featurestore.untrusted.tensor_files import TensorInfo, read_tensor_header
from probes.classifiers.layer_combination import COMBINATIONS
from probes.classifiers.numbers import TargetScale
from probes.questions.refit import PARTS_OF
from probes.saved.calibration import ValidationNumbers, ValidationRows, calibrated
from probes.saved.sklearn_classes import MOST_WIDTH
from probes.saved.stored_arrays import OF_FRAMES, Scores, Stored, restore

if TYPE_CHECKING:
    from featurestore.store.reader import Features

FORMAT = "featurestore-audio probe"
# 1 had no hashes, 2 no calibration, 3 nothing that was fitted again, 4 no groups of validation rows, 5 no
# numbers
FORMAT_VERSION = 6
# Of a probe of classes with groups, and without, fitted again or not: earlier versions read it.
_GROUPS_VERSION, _REFIT_VERSION, _PLAIN_VERSION = 5, 4, 3
JSON_NAME = "probe.json"
WEIGHTS_NAME = "weights.safetensors"
# sha256 of the other file, and of all else in this one.
WEIGHTS_HASH, CONTENT_HASH = "weights_sha256", "content_sha256"
# Neighbours keep all training rows: 600,000 of 1,536 features.
MOST_WEIGHT_BYTES = 4 << 30
# Of frames that are read to be scored: 64 MB.
BLOCK_VALUES = 1 << 24
# Of a probe's validation rows, see `probes.saved.calibration`.
_VALIDATION = ("validation.scores", "validation.target")
_VALIDATION_GROUP = "validation.group"
_VALIDATION_NUMBERS = ("validation.predicted", "validation.target", _VALIDATION_GROUP)
_FORMAT = fields({"format": one_of(FORMAT), "format_version": whole(1)})
_CARD = fields(
    {
        **dict.fromkeys(("model", "dataset", "label", "classifier", "question", "kind"), text),
        **dict.fromkeys(("extraction", "given", "hparams", "settings"), by_name(anything)),
        "layers": many(whole(0, 9999), 1),
        "combine": one_of(*COMBINATIONS),
        "classes": many(text),
        **dict.fromkeys(("multilabel", "probabilistic"), yes_or_no),
        "seed": whole(),
        "split": row_of(text, whole(), whole()),
        "scores": by_name(number(nan=True)),
        "reproduced": by_name(whole()),
    },
    {
        "versions": by_name(text),
        "calibration": by_name(number()),
        "clip_s": nothing_or(number(0)),
        "refit": fields(
            {"rows": one_of(*PARTS_OF), "n_rows": whole(1), "of": text},
            {"n_epochs": whole(), "score_test": number(high=1, nan=True)},
        ),
        "numbers": fields({"mean": number(), "scale": number(0), "n_groups_trained": whole()}),
        WEIGHTS_HASH: text,
        CONTENT_HASH: text,
    },
)


@dataclass(frozen=True, kw_only=True)
class ProbeCard:
    """What a saved probe is: all but its weights, as JSON values.

    Attributes:
        model: Name of the model in the store.
        dataset: Data set it was trained on.
        extraction: Fingerprint of the embeddings, in full.
        given: What they were made with: `model` as `fs extract --model` took it, and options; empty where
            that is not known.
        layers: The layer of the embeddings; several, ascending, where they are combined.
        combine: How, see `probes.classifiers.layer_combination`.
        label: Label column.
        classes: Names of what it tells apart, in the order of its scores; none where it predicts numbers.
        multilabel: Any number of classes can be right at once.
        classifier: Name or import path.
        hparams: All settings of the fit.
        seed: Seed of the fit.
        split: Split, its seed, and the fold.
        question: Fingerprint of the fit in the results it is from.
        scores: Of the fit: uar_train, uar_val, uar_test and others.
        reproduced: Test rows, and those whose prediction is another than the recorded one (of numbers: by
            more than rounding makes).
        kind: How the weights are to be read: see `probes.saved.stored_arrays`.
        settings: What that needs besides the arrays; of frames also the dtype they were stored in.
        probabilistic: Scores are probabilities.
        versions: Of the packages that fitted it.
        calibration: `temperature`, `nll_before` and `nll_after` (nats) and `n_rows` of the validation rows,
            and `n_groups_trained`, how many of their groups have training rows too; empty where scores are no
            probabilities, and in probes of earlier versions.
        clip_s: Median seconds of the training clips; None in probes of earlier versions.
        refit: Of a probe that was fitted again on more rows: `rows` ("train+val" or "all"), `n_rows`,
            `n_epochs` (of what is trained by epochs), `of` (fingerprint of the fit that validation chose,
            which `scores` and `reproduced` are about), and where test rows were left out `score_test`.
            Empty else.
        numbers: Of a probe of numbers: `mean` and `scale` of what it learned, in the unit of the label, and
            `n_groups_trained`, how many groups of its validation rows have training rows too. Empty else.
    """

    model: str
    dataset: str
    extraction: dict[str, Any]
    given: dict[str, Any]
    layers: tuple[int, ...]
    combine: str
    label: str
    classes: tuple[str, ...]
    multilabel: bool
    classifier: str
    hparams: dict[str, Any]
    seed: int
    split: tuple[str, int, int]
    question: str
    scores: dict[str, float]
    reproduced: dict[str, int]
    kind: str
    settings: dict[str, Any]
    probabilistic: bool
    versions: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    clip_s: float | None = None
    refit: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def is_numbers(self) -> bool:
        """It predicts a number, not a class."""
        return bool(self.numbers)

    @property
    def n_scores(self) -> int:
        """Scores of a row: one for each class, or the number."""
        return 1 if self.is_numbers else len(self.classes)

    @property
    def reads_frames(self) -> bool:
        """It looks at the frames of a clip, not at one vector."""
        return self.kind == OF_FRAMES


@dataclass(frozen=True, kw_only=True)
class SavedProbe:
    """A probe that was saved: raw embeddings in, classes or numbers out.

    Attributes:
        card: What it is.
        mean: Of the training rows `[d]`.
        scale: What they were divided by `[d]`.
        arrays: Weights by name.
        validation: What it said of its validation rows; None where `card.calibration` is empty.
        validation_numbers: The same of a probe of numbers; None where it was fitted again on these rows.
    """

    card: ProbeCard
    mean: FloatArray
    scale: FloatArray
    arrays: dict[str, npt.NDArray[Any]]
    validation: ValidationRows | None = None
    validation_numbers: ValidationNumbers | None = None

    def scores(self, x: FloatArray) -> Any:
        """Class scores `[n, C]` of embeddings `[n, d]` as the store holds them, float32.

        Of numbers what is predicted, in the unit of the label, float64 `[n, 1]`.

        Layers in ascending order side by side, and within each its functionals.

        Raises:
            ConfigError: it reads frames.
        """
        if self.card.reads_frames:
            raise ConfigError(
                f"a probe of {self.card.classifier} reads the frames of clips, not one vector of each; "
                "ask frame_scores"
            )
        return self._in_unit(self.scorer((np.asarray(x, dtype=np.float32) - self.mean) / self.scale))

    def _in_unit(self, scores: FloatArray) -> Any:
        numbers = self.card.numbers
        return TargetScale(numbers["mean"], numbers["scale"]).back(scores) if numbers else scores

    def frame_scores(self, features: Features, position: IntArray) -> Any:
        """`scores` of rows of a key that holds frames, read a block at a time.

        Args:
            features: The key.
            position: Rows of its index `[n]`, ascending, whose audio was read.

        Raises:
            ConfigError: it holds no frames.
            StoreError: frames that are not finite.
        """
        from probes.training.frames import streamed_frames
        from probes.training.standardise import Standardiser

        width = len(self.mean)
        rows = streamed_frames(features, self.card.layers, position, max(1, BLOCK_VALUES // width))
        standardised = replace(rows, standardise=Standardiser(self.mean, self.scale))
        return self._in_unit(self.scorer(cast("FloatArray", standardised)))

    @cached_property
    def scorer(self) -> Scores:
        """From standardised rows `[n, d]`, or frames, to class scores `[n, C]`, or standardised numbers.

        Raises:
            CorruptData: what was read cannot be that of a probe.
        """
        return restore(
            Stored(kind=self.card.kind, settings=self.card.settings, arrays=self.arrays),
            n_features=len(self.mean),
            n_classes=self.card.n_scores,
            multilabel=self.card.multilabel,
            of_numbers=self.card.is_numbers,
        )

    def probabilities(self, x: FloatArray) -> FloatArray:
        """Calibrated probabilities `[n, C]` of embeddings `[n, d]`; see `scores`."""
        temperature = self.card.calibration.get("temperature", 1.0)
        return calibrated(self.scores(x), temperature, multilabel=self.card.multilabel)

    def predict(self, x: FloatArray) -> npt.NDArray[Any]:
        """A class for each row `[n]`; for label sets the classes of at least one half, joined with ``|``.

        Of numbers the number, float64.
        """
        return self.name(self.scores(x))

    def name(self, scores: FloatArray) -> npt.NDArray[Any]:
        """Predictions `[n]` from `scores [n, C]`."""
        if self.card.is_numbers:
            return scores[:, 0]
        if not self.card.multilabel:
            classes = np.array(self.card.classes, dtype=object)
            return np.asarray(classes[scores.argmax(axis=1)], dtype=object)
        from probes.classifiers.multilabel import THRESHOLD, cells_of

        return cells_of(scores >= THRESHOLD, list(self.card.classes))

    def require(self, fingerprint: Mapping[str, Any], what: str) -> None:
        """Refuse embeddings that were made in another way.

        Raises:
            FingerprintMismatch: one line with the first differences.
        """
        differences = diff(self.card.extraction, fingerprint)
        if differences:
            shown = "; ".join(
                d.replace("stored", "probe").replace("requested", "here") for d in differences[:3]
            )
            raise FingerprintMismatch(
                f"{what}: the probe was trained on other embeddings: {shown}; "
                f"extract with the model and options of {self.card.model}"
            )


def write_probe(folder: Path, probe: SavedProbe) -> None:
    """Write both files; the JSON last, so that a folder with one is whole.

    Raises:
        ConfigError: its weights are larger than `read_probe` reads.
        StoreError: the folder cannot be written.
    """
    from safetensors.numpy import save

    arrays = {f"probe.{name}": np.asarray(value, order="C") for name, value in probe.arrays.items()}
    arrays |= {"standardiser.mean": probe.mean, "standardiser.scale": probe.scale}
    if probe.validation is not None:
        arrays |= dict(zip(_VALIDATION, (probe.validation.scores, probe.validation.target), strict=True))
        if probe.validation.group is not None:
            arrays[_VALIDATION_GROUP] = probe.validation.group
    if probe.validation_numbers is not None:
        rows = probe.validation_numbers
        arrays |= dict(zip(_VALIDATION_NUMBERS, (rows.predicted, rows.target, rows.group), strict=True))
    weights = save(arrays)
    if len(weights) > MOST_WEIGHT_BYTES:
        raise ConfigError(
            f"{folder}: the probe takes {len(weights):,} bytes, expected at most {MOST_WEIGHT_BYTES:,}; "
            "choose a classifier that does not keep its training rows"
        )
    version = _REFIT_VERSION if probe.card.refit else _PLAIN_VERSION
    if _VALIDATION_GROUP in arrays:
        version = _GROUPS_VERSION
    if probe.card.is_numbers:
        version = FORMAT_VERSION
    content = {"format": FORMAT, "format_version": version, **asdict(probe.card)}
    for name in ("refit", "numbers"):  # as earlier versions, which do not know these, read it
        if not content[name]:
            del content[name]
    content |= {WEIGHTS_HASH: hashlib.sha256(weights).hexdigest()}
    content |= {CONTENT_HASH: digest(content)}
    with writing(folder, "choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JSON_NAME).unlink(missing_ok=True)
        put_file(weights, folder / WEIGHTS_NAME)
        put_file((json_text(content, indent=2) + "\n").encode(), folder / JSON_NAME)


def read_probe(folder: Path) -> SavedProbe:
    """Read what `write_probe` wrote.

    Raises:
        StoreError: there is no probe.
        CorruptData: it cannot be read, or was changed.
        UnknownFormat: it was written by a later version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / JSON_NAME
    if not path.is_file():
        raise StoreError(f"{path}: expected a probe of `fs save-probe`, found no such file")
    try:
        content = read_json_document(path)
        _FORMAT(content, JSON_NAME)
        if content["format_version"] > FORMAT_VERSION:
            raise UnknownFormat(
                f"{folder}: a probe of format version {content['format_version']}, this program reads up to "
                f"{FORMAT_VERSION}; upgrade featurestore-audio"
            )
        _CARD(content, JSON_NAME)
        check_sizes(content, read_tensor_header(folder / WEIGHTS_NAME))
        weights = read_bytes(folder / WEIGHTS_NAME, most_bytes=MOST_WEIGHT_BYTES)
        _require_unchanged(content, weights)
        for name in ("format", "format_version", WEIGHTS_HASH, CONTENT_HASH):
            content.pop(name, None)
        card = ProbeCard(
            **{**content, **{name: tuple(content[name]) for name in ("classes", "split", "layers")}}
        )
        arrays = load(weights)
        mean, scale = arrays.pop("standardiser.mean"), arrays.pop("standardiser.scale")
        for name, value in (*arrays.items(), ("standardiser.mean", mean), ("standardiser.scale", scale)):
            if not np.isfinite(value).all():
                raise DocumentError(f"{WEIGHTS_NAME}: {name}: expected finite numbers")
        if card.is_numbers:
            validation, numbers = None, _validation_numbers(arrays)
        else:
            validation, numbers = _validation(arrays, card), None
        if not (scale > 0).all():
            raise DocumentError(f"{WEIGHTS_NAME}: standardiser.scale: expected numbers above 0")
    except (ValueError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CorruptData(f"{folder}: not a readable probe ({reason}); save it again") from error
    named = {name.removeprefix("probe."): value for name, value in arrays.items()}
    probe = SavedProbe(
        card=card,
        mean=mean,
        scale=scale,
        arrays=named,
        validation=validation,
        validation_numbers=numbers,
    )
    try:
        probe.scorer  # noqa: B018  # whether it works shows now, and not after audio was embedded
    except CorruptData as error:
        raise CorruptData(f"{folder}: {error}") from error
    return probe


def _validation(arrays: dict[str, npt.NDArray[Any]], card: ProbeCard) -> ValidationRows | None:
    """The validation rows among the arrays, which they are taken out of.

    Raises:
        DocumentError: they are not those of these classes, or there is a calibration and they are missing.
    """
    scores, target, group = (arrays.pop(name, None) for name in (*_VALIDATION, _VALIDATION_GROUP))
    if not card.calibration:
        return None
    if card.calibration.get("temperature", 0.0) <= 0:
        raise DocumentError(f"{JSON_NAME}: calibration.temperature: expected a number above 0")
    if scores is None or target is None:
        raise DocumentError(f"{WEIGHTS_NAME}: {' and '.join(_VALIDATION)}: expected with a calibration")
    n, k = len(scores), len(card.classes)
    if scores.dtype != np.float32 or scores.shape != (n, k) or not ((scores >= 0) & (scores <= 1)).all():
        raise DocumentError(f"{WEIGHTS_NAME}: {_VALIDATION[0]}: expected probabilities of {k} classes")
    most = 1 if card.multilabel else k - 1
    shape = (n, k) if card.multilabel else (n,)
    if target.dtype != np.int32 or target.shape != shape or not ((target >= 0) & (target <= most)).all():
        raise DocumentError(f"{WEIGHTS_NAME}: {_VALIDATION[1]}: expected whole numbers from 0 to {most}")
    if group is not None and (group.dtype != np.int32 or group.shape != (n,)):
        raise DocumentError(
            f"{WEIGHTS_NAME}: {_VALIDATION_GROUP}: expected a whole number for each of {n} rows"
        )
    return ValidationRows(scores=scores, target=target, group=group)


def _validation_numbers(arrays: dict[str, npt.NDArray[Any]]) -> ValidationNumbers | None:
    """`_validation` of a probe of numbers; None where it keeps none.

    Raises:
        DocumentError: some are missing, or they are not of one length.
    """
    found = [arrays.pop(name, None) for name in _VALIDATION_NUMBERS]
    if all(value is None for value in found):
        return None
    predicted, target, group = found
    shape = None if target is None else target.shape
    for name, value, dtype in zip(_VALIDATION_NUMBERS, found, ("float64", "float64", "int32"), strict=True):
        if value is None or value.dtype != dtype or value.ndim != 1 or value.shape != shape or not len(value):
            raise DocumentError(f"{WEIGHTS_NAME}: {name}: expected a {dtype} number for each validation row")
    assert predicted is not None
    assert target is not None
    assert group is not None
    return ValidationNumbers(predicted=predicted, target=target, group=group)


def check_sizes(content: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> None:
    """Refuse weights that cannot be those of the card, before they are read.

    Raises:
        DocumentError: what is missing or does not fit.
    """
    shapes = [tensors[n].shape if n in tensors else None for n in ("standardiser.mean", "standardiser.scale")]
    if shapes[0] != shapes[1] or shapes[0] is None or len(shapes[0]) != 1 or shapes[0] == (0,):
        raise DocumentError(f"{WEIGHTS_NAME}: standardiser: expected a mean and a scale of one length")
    numbers = content.get("numbers")
    if bool(content["classes"]) == bool(numbers):
        raise DocumentError(f"{JSON_NAME}: classes: expected one at least, or numbers and no class")
    if numbers and (content["multilabel"] or content["probabilistic"] or content.get("calibration")):
        raise DocumentError(f"{JSON_NAME}: numbers: expected no label sets, probabilities or calibration")
    if numbers and not numbers["scale"] > 0:
        raise DocumentError(f"{JSON_NAME}: numbers.scale: expected a number above 0")
    if len(set(content["classes"])) < len(content["classes"]):
        raise DocumentError(f"{JSON_NAME}: classes: expected each name once")
    if list(content["layers"]) != sorted(set(content["layers"])):
        raise DocumentError(f"{JSON_NAME}: layers: expected ascending ones")
    if shapes[0][0] > MOST_WIDTH:
        raise DocumentError(f"{WEIGHTS_NAME}: standardiser: expected at most {MOST_WIDTH:,} features")


def _require_unchanged(content: Mapping[str, Any], weights: bytes) -> None:
    """Refuse files that are not as they were saved; version 1 did not say how that was."""
    if content["format_version"] == 1:
        return
    rest = {name: value for name, value in content.items() if name != CONTENT_HASH}
    if content.get(CONTENT_HASH) != digest(rest):
        raise DocumentError(f"{JSON_NAME} was changed since it was saved")
    if content.get(WEIGHTS_HASH) != hashlib.sha256(weights).hexdigest():
        raise DocumentError(f"{WEIGHTS_NAME} is not the one that was saved with {JSON_NAME}")
