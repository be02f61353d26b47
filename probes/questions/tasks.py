"""What is asked, as data: configuration, and the grid of tasks it stands for."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from featurestore.arrays import TextArray
from featurestore.compute.memory import parse_bytes
from featurestore.compute.task_runners import check_cluster
from featurestore.errors import ConfigError
from featurestore.fingerprint import canonical_json, digest, digest_items
from featurestore.layer_list import format_layers, parse_layers
from probes.classifiers.layer_combination import EACH, WEIGHTED
from probes.classifiers.numbers import CLASSIFICATION, REGRESSION, check_task, settings_of_numbers
from probes.classifiers.registry import check_combinations, expand_grid, get_classifier
from probes.classifiers.weighted_sum import LAYER_LEARNING_RATE
from probes.questions.controls import check_controls
from probes.questions.curve import check_curves
from probes.questions.number_questions import check_number_question
from probes.questions.refit import check_refit
from probes.splits import GROUP, Rows, Split, parse_split, with_group

# Part of every fingerprint. Raise it when a change of code changes results, so that what was
# cached before is fitted again.
NUMERICS_VERSION = 1
# All fits are listed before the first: beyond this it is a slip of the hand.
MAX_SEEDS = 10_000
MAX_SPLIT_SEED = 2**32 - 1  # of scikit-learn's folds
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,4})?")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """A call of `run_probe`.

    Attributes:
        store: Path or URL of the feature store.
        labels: Label columns to predict.
        out: Folder of the results.
        models: Models of the store; all when empty.
        datasets: Data sets of the store; all when empty.
        layers: Layers such as "0-6,12"; all when None.
        classifiers: Names or import paths, see `probes.classifiers.registry`.
        combine: How the layers asked for are looked at, each "each", "concat" or "weighted"; see
            `probes.classifiers.layer_combination`.
        grid: Settings by classifier: name to setting to values (or one value).
        split: Name of a splitter; None takes the manifest's split column if it has one, else its
            groups, else random.
        groups: Columns whose values are held out together, one split for each: `group`, `path` (the audio
            file) or a label column. Without `split` the split is "group" then.
        split_seed: Seed of the split, apart from the probes' seeds: these show the spread of
            training on one split.
        n_seeds: Fits with seeds 0 … n_seeds-1.
        controls: What else to fit of every probe, see `probes.questions.controls`.
        curves: Learning curves to fit of every probe, see `probes.questions.curve`.
        curve_draws: Draws of each share of a curve; None for 5.
        curve_shares: Percentages such as "10,30,100"; None for those of `probes.questions.curve`.
        refit: Rows that the fits which validation chose are made again on, and then scored by the test rows:
            "train+val", see `probes.questions.refit`; None for no such fits.
        cluster: Where to run, see `featurestore.compute.task_runners`.
        memory: What a worker may hold in all, such as "1.5GB"; None for its share of what is free. Layers
            that do not fit are streamed from the store.
        device: Where networks that are trained together are trained: ``cpu``, ``cuda``, ``cuda:N`` or
            ``auto``, which each worker answers for itself. No part of any fingerprint: results agree to
            rounding.
        task: What the labels are: ``classification``, or ``regression`` of numbers.
    """

    store: str
    labels: tuple[str, ...]
    out: Path
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    layers: str | None = None
    classifiers: tuple[str, ...] = ("mlp",)
    combine: tuple[str, ...] = (EACH,)
    grid: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    split: str | None = None
    groups: tuple[str, ...] = ()
    split_seed: int = 0
    n_seeds: int = 1
    controls: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    curve_draws: int | None = None
    curve_shares: str | None = None
    refit: str | None = None
    cluster: str | None = None
    memory: str | None = None
    device: str = "cpu"
    task: str = CLASSIFICATION

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", str(self.store))
        object.__setattr__(self, "out", Path(self.out))
        lists = ("labels", "models", "datasets", "classifiers", "combine", "groups", "controls", "curves")
        for name in lists:
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigError(f"{name}: expected a list of names, got the text {value!r}")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))
        if not self.labels:
            raise ConfigError("labels: expected at least one label column")
        if not self.classifiers:
            raise ConfigError("classifiers: expected at least one classifier")
        check_task(self.task, self.classifiers)
        if self.task == REGRESSION:
            check_number_question(self)
        check_combinations(self.combine, self.classifiers)
        check_controls(self.controls, self.classifiers)
        check_curves(self.curves, self.curve_shares, self.curve_draws)
        check_refit(self.refit, self.classifiers)
        if not 1 <= self.n_seeds <= MAX_SEEDS:
            raise ConfigError(f"seeds: expected 1 to {MAX_SEEDS:,}, got {self.n_seeds}")
        if not 0 <= self.split_seed <= MAX_SPLIT_SEED:
            raise ConfigError(f"split seed: expected from 0 to {MAX_SPLIT_SEED:,}, got {self.split_seed:,}")
        if self.split is not None:
            parse_split(self.split)
        assert self.splits  # checks them
        check_cluster(self.cluster)
        if self.memory is not None:
            parse_bytes(self.memory)
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(f"--device: expected auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.layers is not None:
            parse_layers(self.layers)
        for name in self.grid:
            if name not in self.classifiers:
                asked = ", ".join(self.classifiers)
                raise ConfigError(f"grid: settings for classifier {name!r}, but the classifiers are {asked}")
        for combine in self.combine:
            self.fits(combine)

    @property
    def splits(self) -> tuple[str | None, ...]:
        """The splits that are asked for, with the columns of their groups; None for the manifest's default.

        Raises:
            ConfigError: groups are named for a split that has none.
        """
        if not self.groups:
            return (self.split,)
        return tuple(with_group(self.split or GROUP, column) for column in self.groups)

    def fits(self, combine: str = EACH) -> dict[str, list[FitSpec]]:
        """Settings and seeds of every fit, by classifier."""
        out = {}
        for name in self.classifiers:
            grid = self.grid.get(name, {})
            if combine != WEIGHTED and WEIGHTED in self.combine:  # one grid for all ways to look
                grid = {k: v for k, v in grid.items() if k != LAYER_LEARNING_RATE}
            settings = expand_grid(name, grid, combine)
            if self.task == REGRESSION:
                settings = [settings_of_numbers(name, s) for s in settings]
            seeds = range(self.n_seeds if get_classifier(name).seeded else 1)
            out[name] = [FitSpec(hparams=_recorded(name, s), seed=i) for s in settings for i in seeds]
        return out

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; the task where it is another than what there was first."""
        found = {**asdict(self), "out": str(self.out)}
        if self.task == CLASSIFICATION:
            del found["task"]
        return found


def _recorded(classifier: str, settings: Mapping[str, Any]) -> str:
    """Settings as the results hold them.

    Raises:
        ConfigError: one has no form in JSON, such as infinity or a date.
    """
    for name, value in settings.items():
        try:
            canonical_json(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"classifier {classifier}, setting {name}: expected a value that JSON can hold, got {value!r}"
            ) from error
    return canonical_json(settings)


@dataclass(frozen=True, order=True)
class FitSpec:
    """One fit within a bundle: settings as canonical JSON, and the seed.

    Of a learning curve also the share of the training data, above 0 to 1, and the draw, from 0.
    """

    hparams: str
    seed: int
    share: float = 1.0
    draw: int = 0


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """One (model, data set, label, layer or layers, classifier, split): all its fits not yet done.

    Attributes:
        store: Path or URL of the feature store; the worker opens it.
        model: Key in the store.
        dataset: Key in the store.
        label: Label column.
        layers: The layer; several, ascending, where they are combined.
        classifier: Name or import path.
        split: Splitter.
        split_seed: Its seed.
        fold: Which of the splitter's splits.
        data: Digest of the key's fingerprint and of id, audio, class and part of every row.
        fits: What to fit.
        combine: See `probes.classifiers.layer_combination`.
        source: What the name of a plugin stands for; see `probes.classifiers.entry_points`.
        groups: Digest of id and group of every row, where labels or rows are drawn by group; "" elsewhere.
        clips: What the split is drawn from, see `probes.questions.labelled_rows.Labelled.clips`. No part of
            the question, whose data says which row is where; an answer that was found for other groups is
            found anew.
        curve: What shares of the training data the fits have, see `probes.questions.curve`; "" where all.
        device: Where to train, see `ProbeConfig`. No part of the question.
        refit: The rows that fits are made again on, see `probes.questions.refit`; "" for ordinary fits.
        task: ``classification``, or ``regression`` of numbers.
    """

    store: str
    model: str
    dataset: str
    label: str
    layers: tuple[int, ...]
    classifier: str
    split: str
    split_seed: int
    fold: int
    data: str
    fits: tuple[FitSpec, ...]
    combine: str = EACH
    control: str = ""
    source: str = ""
    groups: str = ""
    clips: str = ""
    curve: str = ""
    device: str = "cpu"
    refit: str = ""
    task: str = CLASSIFICATION

    @property
    def layer(self) -> int | None:
        """The one layer of a task that combines none."""
        return self.layers[0] if self.combine == EACH else None

    @property
    def place(self) -> str:
        """Where it looks, for messages: ``layer 7`` or ``concat of layers 0-12``."""
        listed = format_layers(self.layers)
        return f"layer {listed}" if self.combine == EACH else f"{self.combine} of layers {listed}"

    def __str__(self) -> str:
        return (
            f"probe of {self.model}/{self.dataset} {self.place}, label {self.label}, "
            f"classifier {self.classifier}, split {self.split}"
            + (f", control {self.control}" if self.control else "")
            + (f", curve {self.curve}" if self.curve else "")
            + (f", fitted again on {self.refit}" if self.refit else "")
            + (f", {self.task}" if self.task != CLASSIFICATION else "")
        )

    def question(self, fit: FitSpec) -> str:
        """Fingerprint of one fit (sha256): the same question always has the same one.

        It holds nothing of the other fits, of where the store lies, or of how it was run.
        """
        asked = {
            "numerics": NUMERICS_VERSION,
            "model": self.model,
            "dataset": self.dataset,
            "label": self.label,
            "layer": self.layer,
            "classifier": self.classifier,
            "hparams": json.loads(fit.hparams),
            "seed": fit.seed,
            "split": [self.split, self.split_seed, self.fold],
            "data": self.data,
        }
        if self.combine != EACH:
            asked |= {"combine": self.combine, "layers": list(self.layers)}
        if self.curve:
            asked |= {"curve": [self.curve, fit.share, fit.draw]}
        more = {"source": self.source, "control": self.control, "groups": self.groups, "refit": self.refit}
        more["task"] = "" if self.task == CLASSIFICATION else self.task
        return digest(asked | {name: value for name, value in more.items() if value})

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the bundle: of its fits' fingerprints, whatever their order (sha256)."""
        return digest(sorted(self.question(f) for f in self.fits))


def data_digest(key_fingerprint: Any, audio_hash: Sequence[str], rows: Rows, split: Split) -> str:
    """Digest of what a split of labelled rows is, whatever their order (sha256).

    Args:
        key_fingerprint: The store key's own fingerprint (JSON values).
        audio_hash: Of each row `[n]`.
        rows: Ids and classes.
        split: Which row is in which part.
    """
    part = split.part_of_rows(len(rows))
    return digest_of_rows(key_fingerprint, rows.utterance_id, audio_hash, rows.label, part)


def digest_of_rows(
    key_fingerprint: Any,
    utterance_id: Sequence[str] | TextArray,
    audio_hash: Sequence[str] | TextArray,
    label: Sequence[str] | TextArray,
    part: Sequence[str] | TextArray,
) -> str:
    """`data_digest` of the columns themselves, each `[n]`; ids are unique, rows in part "" are left out."""
    columns = zip(utterance_id, audio_hash, label, part, strict=True)
    lines = sorted([str(cell) for cell in row] for row in columns if row[3] != "")
    return digest_items(itertools.chain([key_fingerprint], lines))
