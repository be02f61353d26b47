"""Whether a task's rows fit into a worker's memory, and what is done where they do not."""

from __future__ import annotations

import json

import numpy as np

from featurestore.arrays import IntArray
from featurestore.compute.memory import format_size, resident_bytes, worker_bytes
from featurestore.errors import ConfigError
from featurestore.layer_list import format_layers
from featurestore.store.reader import Features
from probes.classifiers.registry import classifier_for
from probes.classifiers.ridge import Ridge
from probes.questions.tasks import ProbeTask
from probes.training.vectors import StreamedRows

# What a fit holds beside the rows, in multiples of its first weights: these, two moments, the initial and the
# best; and what all together need for activations and scores.
WEIGHTS_OF_FIT = 5
ACTIVATION_BYTES = 64 << 20
# A block below this is too few units to shuffle, and reading costs more than training.
LEAST_BLOCK_BYTES = 32 << 20
# The validation rows are copied where a class has no training rows.
MATRIX_SHARE = 1.3
# Of a linear probe, whose first weights are its only ones.
MOST_CLASSES = 100


def streamed_parts(
    task: ProbeTask,
    features: Features,
    position: dict[str, IntArray],
    memory_bytes: int | None,
    *,
    may_stream: bool = True,
) -> dict[str, StreamedRows] | None:
    """The parts of a task as rows in the store; None where memory holds all of them.

    Args:
        task: What is asked.
        features: Its key.
        position: Rows of the key's index, by part.
        memory_bytes: What this process may hold in all; None for a share of what is free.
        may_stream: False for label sets, which are fitted on rows in memory.

    Raises:
        ConfigError: too little memory for the classifier.
    """
    sources = tuple(features.layer(layer) for layer in task.layers)
    # Shares of a learning curve are standardised each by its own rows: in a copy.
    n_rows = sum(len(rows) for rows in position.values()) * (2 if task.curve else 1)
    n_features = sum(int(np.prod(s.shape[1:])) for s in sources)
    memory = memory_bytes or worker_bytes()
    where = f"{task.model}/{task.dataset} layer {format_layers(task.layers)}"
    fits = [json.loads(f.hparams).get("hidden", ()) for f in task.fits]
    weights = sum(4 * n_features * (h[0] if h else MOST_CLASSES) for h in fits)
    beside = WEIGHTS_OF_FIT * weights + min(ACTIVATION_BYTES, 4 * n_rows * n_features)
    classifier = classifier_for(task.classifier, task.combine)
    if isinstance(classifier, Ridge):
        beside = classifier.held_bytes(n_rows, n_features)
    if may_stream and getattr(classifier, "streams", False):
        rows = block_rows(n_rows, n_features, memory, beside, where)
        if rows is None:
            return None
        return {
            name: StreamedRows(sources=sources, position=at, block_rows=rows) for name, at in position.items()
        }
    what, instead = f"classifier {task.classifier} on {where}", "a classifier that streams (mlp, linear)"
    if not may_stream:
        what, instead = f"label sets of {where}", "one class at a time (--explode)"
    _must_fit(n_rows, n_features, memory, what, beside, instead)
    return None


def block_rows(n_rows: int, n_features: int, memory_bytes: int, beside: int, what: str) -> int | None:
    """Rows of a block that keep this process within `memory_bytes`; None where all of them fit.

    Args:
        n_rows: Rows of all parts.
        n_features: d.
        memory_bytes: What the process may hold in all.
        beside: Bytes that training takes beside the rows.
        what: Named in the message.

    Raises:
        ConfigError: not even a small block fits.
    """
    row_bytes = 4 * n_features
    held = resident_bytes() + beside
    room = memory_bytes - held
    if MATRIX_SHARE * n_rows * row_bytes <= room:
        return None
    # Beside the block: one unit as it is read.
    block = int(0.8 * room)
    if block < LEAST_BLOCK_BYTES:
        least = held + LEAST_BLOCK_BYTES / 0.8
        raise ConfigError(
            f"memory: a worker may use {format_size(memory_bytes)}, and {what} takes at least "
            f"{format_size(least)} even when streamed; raise --memory or take fewer workers"
        )
    return min(block // row_bytes, n_rows)


def _must_fit(n_rows: int, n_features: int, memory_bytes: int, what: str, beside: int, instead: str) -> None:
    """Refuse a matrix that does not fit, for classifiers that need all rows at once.

    Raises:
        ConfigError: one line that says what would fit.
    """
    needed = resident_bytes() + beside + int(MATRIX_SHARE * n_rows * 4 * n_features)
    if needed > memory_bytes:
        raise ConfigError(
            f"memory: {what} needs all {n_rows} x {n_features} values at once, about {format_size(needed)}, "
            f"and a worker may use {format_size(memory_bytes)}; raise --memory, take fewer workers, or "
            f"{instead}"
        )
