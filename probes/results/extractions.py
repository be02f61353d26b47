"""How the embeddings of a key were made, as ``_run.json`` keeps it beside the answers that rest on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.format.row_arrays import STATUS_OK
from featurestore.store.history import read_checks

if TYPE_CHECKING:
    from featurestore.store.reader import Features

_ATTRIBUTES = ("fingerprint", "functionals", "layers", "n_features", "dtype", "versions", "model_card")


def extraction_record(features: Features) -> dict[str, Any]:
    """Attributes of a key, and what its ledger says of all rows: a store that is gone needs not be asked.

    Returns:
        JSON values: fingerprint, functionals, layers, n_features, dtype, versions and model_card as the key
        has them; n_utterances, n_failed, audio_s (seconds of the others); ``made_on``: device and versions of
        packages that its units were made with, each with the values that occur; ``checks``: what checks of
        the key found, in words.
    """
    facts, attributes = features.fact_columns, features.attrs
    is_ok = np.asarray(facts["status"] == STATUS_OK, dtype=bool)
    made_on: dict[str, set[str]] = {}
    for record in features.ledger.values():
        for name, value in record.versions.items():
            made_on.setdefault(name, set()).add(str(value))
    return {
        **{name: attributes[name] for name in _ATTRIBUTES},
        "n_utterances": len(is_ok),
        "n_failed": int((~is_ok).sum()),
        "audio_s": float(np.nansum(facts["duration_s"][is_ok].astype(np.float64))),
        "made_on": {name: sorted(values) for name, values in sorted(made_on.items())},
        "checks": [check.sentence() for check in read_checks(features.storage, features.info.path)],
    }
