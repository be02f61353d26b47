"""Which utterances are heard: of confused pairs, likely mislabelled, hard ones; classes take turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    pairs = [] if sets else list(_pairs(utterances))
    of_pairs = {one.utterance_id for pair in pairs for one in pair}
    others = [
        (SUSPECT, iter(_in_turn(suspects, "label")), SUSPECTS),
        (HARD, iter(_in_turn(utterances[utterances["n_wrong"] > 0], "target")), HARDEST),
    ]
    found: dict[str, Wanted] = {}
    for turn in range(max(PAIRS, SUSPECTS, HARDEST)):
        for one in pairs[turn] if turn < len(pairs) else []:
            found.setdefault(one.utterance_id, one)
        for kind, ids, most in others:
            new = (
                next((u for u in ids if u not in found and u not in of_pairs), None) if turn < most else None
            )
            if new is not None:
                found[new] = Wanted(kind=kind, utterance_id=new)
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


def _in_turn(table: pd.DataFrame, by: str) -> list[str]:
    """Utterances of a table, the first of each class before the second of any."""
    turn = table.assign(turn=table.groupby(by).cumcount()).sort_values("turn", kind="stable")
    return list(turn["utterance_id"])
