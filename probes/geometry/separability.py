"""How far a layer keeps the classes of a label apart, without training anything.

On standardised rows: the silhouette (Rousseeuw 1987) by cosine, Fisher's ratio as the traces of the scatter
between and within classes, and whether the nearest rows of other groups are of the same class. The first two
take clips of one recording for evidence; only the third leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray
from probes.geometry.nearest import Nearest

# All pairs are compared: of more rows so many are drawn.
SILHOUETTE_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Separability:
    """How far classes are apart.

    Attributes:
        silhouette: -1 to 1, mean over rows; NaN where a class is every row's own.
        fisher_ratio: Trace of the scatter between classes over that within.
        fisher_chance: What classes that mean nothing give: ``(C - 1) / (n - C)``.
        purity: Share of neighbours of other groups that are of a row's class, mean over rows of a class, then
            over classes; NaN where no class is in two groups.
        purity_chance: The same if neighbours were any rows of other groups.
        n_purity: Rows that purity is of: those whose class is found in another group.
    """

    silhouette: float
    fisher_ratio: float
    fisher_chance: float
    purity: float
    purity_chance: float
    n_purity: int


def separability(z: FloatArray, y: IntArray, group: IntArray, near: Nearest, seed: int = 0) -> Separability:
    """Measures of standardised rows z `[n, d]` with classes y, 0 to C - 1 `[n]`.

    Args:
        z: Rows, see `probes.geometry.nearest.standardised`.
        y: Class of each.
        group: Code of the group of each.
        near: Neighbours of other groups.
        seed: Draws rows for the silhouette where they are too many.
    """
    n_classes, n = len(np.unique(y)), len(y)
    purity, chance, n_purity = neighbour_purity(y, group, near)
    return Separability(
        silhouette=silhouette(z, y, seed),
        fisher_ratio=fisher_ratio(z, y),
        fisher_chance=(n_classes - 1) / (n - n_classes) if n > n_classes else float("nan"),
        purity=purity,
        purity_chance=chance,
        n_purity=n_purity,
    )


def silhouette(z: FloatArray, y: IntArray, seed: int = 0) -> float:
    """Mean silhouette by cosine (scikit-learn), of `SILHOUETTE_ROWS` rows at most; NaN where undefined."""
    from sklearn.metrics import silhouette_score

    if len(z) > SILHOUETTE_ROWS:
        chosen = np.random.Generator(np.random.PCG64(seed)).choice(len(z), SILHOUETTE_ROWS, replace=False)
        z, y = z[chosen], y[chosen]
    if not 2 <= len(np.unique(y)) <= len(y) - 1:
        return float("nan")
    return float(silhouette_score(z, y, metric="cosine"))


def fisher_ratio(z: FloatArray, y: IntArray) -> float:
    """``tr(S_b) / tr(S_w)`` in float64; infinite where classes have no spread, NaN where nothing has."""
    n_classes = int(y.max()) + 1
    size = np.bincount(y, minlength=n_classes)
    order = np.argsort(y, kind="stable")
    first = np.concatenate([[0], np.cumsum(size)])
    total = z.sum(axis=0, dtype=np.float64)
    between = within = 0.0
    for c in np.flatnonzero(size):
        x = z[order[first[c] : first[c + 1]]].astype(np.float64)
        centre = x.mean(axis=0)
        between += size[c] * float(((centre - total / len(z)) ** 2).sum())
        within += float(((x - centre) ** 2).sum())
    if within > 0:
        return float(between / within)
    return float("inf") if between > 0 else float("nan")


def neighbour_purity(y: IntArray, group: IntArray, near: Nearest) -> tuple[float, float, int]:
    """``(purity, purity by chance, rows it is of)``, see `Separability`."""
    in_group = np.bincount(group)[group]
    alike = found_elsewhere(y, group)
    counted = (alike > 0) & near.there.any(axis=1)
    if not counted.any():
        return float("nan"), float("nan"), 0
    same = (y[near.position] == y[:, None]) & near.there
    share = same[counted].sum(axis=1) / near.there[counted].sum(axis=1)
    chance = alike[counted] / (len(y) - in_group[counted])
    of = y[counted]
    return _class_mean(share, of), _class_mean(chance, of), int(counted.sum())


def found_elsewhere(y: IntArray, group: IntArray) -> IntArray:
    """Of each row the rows of its class in other groups `[n]`."""
    _, where, size = np.unique(np.stack([y, group]), axis=1, return_inverse=True, return_counts=True)
    out: IntArray = np.bincount(y)[y] - size[where.reshape(-1)]
    return out


def _class_mean(values: npt.NDArray[np.float64], y: IntArray) -> float:
    """Mean over the rows of each class, then over classes."""
    size = np.bincount(y)
    sums = np.bincount(y, weights=values)
    return float((sums[size > 0] / size[size > 0]).mean())
