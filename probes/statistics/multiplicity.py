"""Many questions at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array
from featurestore.errors import ConfigError


def holm(p: npt.ArrayLike) -> Float64Array:
    """Holm's adjusted p-values of one declared family (Holm 1979, Scandinavian Journal of Statistics 6:65).

    The chance that any true null of the family is rejected stays below alpha, however the tests depend on
    each other.

    Args:
        p: P-values `[m]`; NaN: a question that could not be tested, which stays NaN and is not counted.

    Returns:
        float64 `[m]`, in the order given.

    Raises:
        ConfigError: A value outside 0 … 1.
    """
    given = np.asarray(p, dtype=np.float64)
    if given.ndim != 1 or ((given < 0) | (given > 1)).any():
        raise ConfigError(f"p: expected values between 0 and 1, [m]; got {p!r:.80}")
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    out = np.full(len(given), np.nan)
    steps = given[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return out
