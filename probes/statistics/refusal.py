"""Where no interval is given: what `benchmarks/coverage.py` shows no method of ours to hold for."""

from __future__ import annotations

import numpy as np

from probes.statistics.influence import Influence

# Fewer were not tried: three groups give intervals over half of the scale. Cameron, Gelbach & Miller 2008
# (Review of Economics and Statistics 90:414) try five at least.
FEWEST_GROUPS = 4
# Most rows of a class in a single group for which the spread of other classes may stand: of so few the chance
# of each row outweighs what the group does.
MOST_ROWS_OF_ONE_GROUP = 3
# Largest share of such classes.
MOST_OF_ONE_GROUP = 0.5
# Four equal groups have 3. Below, what is assumed of rare classes outweighs what is seen.
FEWEST_DF = 2.75


def too_little(given: Influence, df: float) -> str:
    """Why no interval can be given, or "" where one can."""
    if len(given.values) == 0:
        return f"{given.metric} is not defined: no class occurs in some rows and not in others"
    groups = given.n_groups
    if groups < FEWEST_GROUPS:
        were = "group was" if groups == 1 else "groups were"
        return f"{groups} {were} tested; an interval needs {FEWEST_GROUPS} at least"
    spread = given.n_groups_of
    rows = given.counts.sum(axis=0)
    n_single = int((spread < 2).sum())
    if n_single > MOST_OF_ONE_GROUP * len(spread):
        return f"{n_single} of {len(spread)} classes occur in one group only"
    for k in np.flatnonzero((spread < 2) & (rows > MOST_ROWS_OF_ONE_GROUP)):
        name = str(given.names[k])
        return f"all {rows[k]:.0f} rows of {name!r} are of one group: how groups differ in it cannot be seen"
    if not df >= FEWEST_DF:
        count = 1 + (df if df > 0 else 0)
        return (
            f"{groups} groups count as {count:.1f} equal ones, as few hold most rows of a class; an interval "
            f"needs {1 + FEWEST_DF:g}"
        )
    return ""
