"""Ridge regression: numbers as a linear function of a layer, its coefficients kept small."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from featurestore.arrays import Float64Array, FloatArray
from featurestore.errors import ConfigError
from probes.classifiers.interface import Bundle, FittedProbe, Settings, require_known
from probes.classifiers.numbers import RIDGE

ALPHA = "alpha"
#: Tried unless the grid names others: for a few dozen rows of 1,536 features up to many thousands.
DEFAULT_ALPHAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A linear function of a row.

    Attributes:
        coefficients: float64 `[d, 1]`.
        intercept: float64 `[1]`.
    """

    coefficients: Float64Array
    intercept: Float64Array

    def __call__(self, x: FloatArray) -> Any:
        """Numbers `[n, 1]`, float64, of rows `[n, d]`."""
        return x @ self.coefficients + self.intercept


class Ridge:
    """scikit-learn's `Ridge` (squared error + alpha · |coefficients|²), all strengths from one product.

    Of the rows are taken what `probes.training.ridge.ridge_path` takes: float64 copies.
    """

    seeded = False
    by_epochs = False
    default_grid: ClassVar[Settings] = {ALPHA: DEFAULT_ALPHAS}

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `probes.classifiers.interface.Classifier`."""
        require_known(settings, [ALPHA], RIDGE)
        alpha = settings.get(ALPHA, 1.0)
        number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not number or not 0 < alpha < float("inf"):
            raise ConfigError(f"probe setting {ALPHA}: expected a number above 0, got {alpha!r}")
        return {ALPHA: float(alpha)}

    def held_bytes(self, n_rows: int, n_features: int) -> int:
        """What a fit holds beside the rows: a float64 copy of them, and two matrices of products."""
        side = min(n_rows, n_features)
        return 8 * (n_rows * n_features + 2 * side * side)

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """See `probes.classifiers.interface.Classifier`; `y_train` are numbers `[n]`."""
        from probes.training.ridge import ridge_path

        started = time.perf_counter()
        alphas = [float(settings[ALPHA]) for settings, _ in bundle.fits]
        y = np.asarray(bundle.y_train, dtype=np.float64)[:, None]
        found = [LinearFit(*solution) for solution in ridge_path(bundle.x_train, y, alphas)]
        each_s = (time.perf_counter() - started) / len(found)
        return [FittedProbe(scores=fit, probabilistic=False, fit_s=each_s, model=fit) for fit in found]
