"""Which utterances are heard: of confused pairs, likely mislabelled, hard ones; classes take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from probes.findings.mistakes import confused_pairs

if TYPE_CHECKING:
    import pandas as pd

PAIRS, MISTAKES_OF_PAIR = 4, 2
SUSPECTS = HARDEST = 8
PAIR, SUSPECT, HARD = "pair", "suspect", "hard"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An utterance that is to be heard.

    Attributes:
        kind: `PAIR`, `SUSPECT` or `HARD`.
        utterance_id: Of the utterance.
        pair: Of a pair its classes, the true one first; else empty.
        is_example: It is recognised, to be heard beside mistakes.
    """

    kind: str
    utterance_id: str
    pair: tuple[str, ...] = ()
    is_example: bool = False


def wanted(utterances: pd.DataFrame, suspects: pd.DataFrame, *, sets: bool = False) -> list[Wanted]:
    """Utterances of a question in the order in which they are given room; each stands once.

    A pair is followed by a suspect and a hard utterance, then comes the next pair. Each class is the one that
    is mistaken in one pair, and gives one suspect and one hard utterance, before any gives a second.

    Args:
        utterances: `probes.findings.mistakes.by_utterance`.
        suspects: `probes.findings.mislabelled.Mislabelled.table`.
        sets: Labels are sets, of which no two are taken for each other.
    """
    kinds = [
        [] if sets else list(_pairs(utterances)),
        [[w] for w in _in_turn(suspects, "label", SUSPECT, SUSPECTS)],
        [[w] for w in _in_turn(utterances[utterances["n_wrong"] > 0], "target", HARD, HARDEST)],
    ]
    found: dict[str, Wanted] = {}
    for turn in zip_longest(*kinds, fillvalue=[]):
        for one in (w for group in turn for w in group):
            found.setdefault(one.utterance_id, one)
    return list(found.values())


def _pairs(utterances: pd.DataFrame) -> Iterator[list[Wanted]]:
    """The clips of each pair: mistakes, then one clip of either class that is recognised."""
    pairs = confused_pairs(utterances)
    turn = pairs.assign(turn=pairs.groupby("target").cumcount()).sort_values("turn", kind="stable")
    known = utterances[utterances["n_wrong"] == 0].sort_values(
        ["p_target", "utterance_id"], ascending=[False, True]
    )
    for target, other in turn[["target", "mistaken_for"]].head(PAIRS).itertuples(index=False):
        is_of = (utterances["target"] == target) & (utterances["mistaken_for"] == other)
        found = [
            Wanted(kind=PAIR, pair=(target, other), utterance_id=u)
            for u in utterances.loc[is_of, "utterance_id"].head(MISTAKES_OF_PAIR)
        ]
        for name in (target, other):
            found += [
                Wanted(kind=PAIR, pair=(target, other), utterance_id=u, is_example=True)
                for u in known.loc[known["target"] == name, "utterance_id"].head(1)
            ]
        yield found


def _in_turn(table: pd.DataFrame, by: str, kind: str, most: int) -> Sequence[Wanted]:
    """The first rows of a table, the first of each class before the second of any."""
    turn = table.assign(turn=table.groupby(by).cumcount()).sort_values("turn", kind="stable")
    return [Wanted(kind=kind, utterance_id=u) for u in turn["utterance_id"].head(most)]
