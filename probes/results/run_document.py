"""What a ``_run.json`` holds, value by value: it may be of another version, or anybody's."""

from __future__ import annotations

from featurestore.untrusted.document_shape import (
    anything,
    by_name,
    exactly,
    fields,
    many,
    nothing_or,
    number,
    one_of,
    text,
    whole,
    yes_or_no,
)
from probes.splits.missing_parts import CONSEQUENCES

# Folds of a leave-one-out, or inner times outer folds.
MOST_FOLDS = 10_000_000
_TEXTS = many(text)
_PART = fields(
    {"rows": whole(), "per_class": by_name(whole()), "groups": _TEXTS},
    {
        "classes_missing": _TEXTS,
        "numbers": exactly({"n_values": whole(), "low": number(), "high": number(), "mean": number()}),
    },
)
_LEAK = exactly(
    {
        "kind": text,
        "parts": many(one_of(*CONSEQUENCES), 2, 2),
        "n_shared": whole(),
        "n_rows": whole(),
        "n_of": whole(),
        "examples": _TEXTS,
    }
)
_SPLIT = fields(
    {
        "model": text,
        "dataset": text,
        "label": text,
        "split": text,
        "split_seed": whole(),
        "fold": whole(0, MOST_FOLDS),
        "parts": fields(dict.fromkeys(CONSEQUENCES, _PART)),
    },
    {
        "chance": number(nan=True),
        "task": text,
        "digest": text,
        "clips": text,
        "extraction": nothing_or(text),
        "rows_left_out": whole(),
        "leakage": fields({"leaks": many(_LEAK)}, {"of": text, "notes": _TEXTS, "complete": yes_or_no}),
    },
)
_CONFIG = fields(
    {"store": text, "labels": _TEXTS, "models": _TEXTS, "datasets": _TEXTS, "classifiers": _TEXTS},
    {
        "out": text,
        "layers": nothing_or(text),
        "combine": _TEXTS,
        "grid": by_name(by_name(anything)),
        "split": nothing_or(text),
        "groups": _TEXTS,
        "split_seed": whole(),
        "n_seeds": whole(),
        "controls": _TEXTS,
        "curves": _TEXTS,
        "curve_draws": nothing_or(whole()),
        "curve_shares": nothing_or(text),
        "refit": nothing_or(text),
        "cluster": nothing_or(text),
        "memory": nothing_or(text),
        "device": text,
        "task": text,
    },
)
#: Of `probes.results.results_folder.calls_of`; what stands in ``keys`` is read by `featurestore.calls`.
CALLS = many(
    fields({"config": _CONFIG}, {"cwd": text, "finished": yes_or_no, "keys": by_name(many(anything))})
)
#: Of the whole file.
RUN = fields(
    {"splits": many(_SPLIT)},
    {
        "config": by_name(anything),
        "calls": CALLS,
        "layers": many(whole()),
        "versions": by_name(text),
        "chance": by_name(number(nan=True)),
        "replaced": _TEXTS,
        "untrained": by_name(_TEXTS),
        "models": by_name(by_name(text)),
        "extractions": by_name(by_name(anything)),
        "keys": by_name(anything),
    },
)
