"""Where no interval is given: what `benchmarks/coverage.py` shows no method of ours to hold for."""

from __future__ import annotations

import numpy as np

from probes.statistics.influence import Influence

# Fewer were not tried: three groups give intervals over half of the scale. Cameron, Gelbach & Miller 2008
# (Review of Economics and Statistics 90:414) try five at least.
FEWEST_GROUPS = 4
# Four equal groups have 3. Below, what is assumed of rare classes outweighs what is seen.
FEWEST_DF = 2.75


def too_little(given: Influence, df: float) -> str:
    """Why no interval can be given, or "" where one can."""
    if given.design.number is not None:
        if len(given.values) == 0:
            return f"{given.metric} is not defined: all targets, or all predictions, are alike"
        if np.isnan(given.by_group).any():
            return f"{given.metric} is not defined without one of the groups: the others have one value"
    if len(given.values) == 0:
        return f"{given.metric} is not defined: no class occurs in some rows and not in others"
    groups = given.n_groups
    if groups < FEWEST_GROUPS:
        were = "group was" if groups == 1 else "groups were"
        return f"{groups} {were} tested; an interval needs {FEWEST_GROUPS} at least"
    spread = given.n_groups_of
    rows = given.counts.sum(axis=0)
    single = np.flatnonzero(spread < 2)
    if len(single):
        name, n = str(given.names[single[0]]), rows[single[0]]
        many = f"{len(single)} classes occur in one group only, such as {name!r}"
        said = many if len(single) > 1 else f"{name!r} ({n:.0f} rows) occurs in one group only"
        return f"{said}: how groups differ cannot be seen there"
    if not df >= FEWEST_DF:
        count = 1 + (df if df > 0 else 0)
        return (
            f"{groups} groups count as {count:.1f} equal ones, as few hold most rows of a class; an interval "
            f"needs {1 + FEWEST_DF:g}"
        )
    return ""
