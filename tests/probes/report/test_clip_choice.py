"""Which clips are heard: classes take turns, each clip once."""

from __future__ import annotations

import pandas as pd

from probes.report.clips.choice import HARD, HARDEST, PAIR, PAIRS, SUSPECT, SUSPECTS, wanted


def utterances(rows: list[tuple[str, str, str, int]]) -> pd.DataFrame:
    """Utterance, target, what it is taken for ("" for right), wrong answers of 2."""
    table = pd.DataFrame(rows, columns=["utterance_id", "target", "mistaken_for", "n_wrong"])
    return table.assign(
        n_answers=2, n_mistaken=table["n_wrong"], p_target=0.5 - 0.1 * table["n_wrong"], group="g"
    )


def many(n_classes: int = 6, n: int = 20) -> pd.DataFrame:
    """Class 0 has nearly all mistakes; each other class has two."""
    rows = []
    for c in range(n_classes):
        n_wrong = n - 2 if c == 0 else 2
        for i in range(n):
            is_wrong = i < n_wrong
            rows.append(
                (f"c{c}-{i:02d}", f"c{c}", f"c{(c + 1) % n_classes}" if is_wrong else "", 2 * is_wrong)
            )
    return utterances(rows)


def suspects(table: pd.DataFrame) -> pd.DataFrame:
    wrong = table[table["n_wrong"] > 0]
    return pd.DataFrame({"utterance_id": wrong["utterance_id"], "label": wrong["target"]})


def test_each_clip_stands_once_and_no_class_takes_all() -> None:
    table = many()
    found = wanted(table, suspects(table))
    ids = [w.utterance_id for w in found]
    assert len(ids) == len(set(ids))
    pairs = list(dict.fromkeys(w.pair for w in found if w.kind == PAIR))
    assert len(pairs) == PAIRS
    assert len({true for true, _ in pairs}) == PAIRS  # another class each
    classes = table.set_index("utterance_id")["target"]
    # The class with nearly all mistakes takes nothing from the others: each of theirs is heard.
    wrong = table.loc[(table["n_wrong"] > 0) & (table["target"] != "c0"), "utterance_id"]
    assert set(wrong) <= set(ids)
    for kind, most in ((SUSPECT, SUSPECTS), (HARD, HARDEST)):
        of = [classes[w.utterance_id] for w in found if w.kind == kind]
        assert 0 < len(of) <= most
        # Classes 1 to 3 have no mistake left that a pair did not take.
        assert {"c0", "c4"} <= set(of) <= {"c0", "c4", "c5"}, kind


def test_a_pair_has_mistakes_and_one_recognised_clip_of_either_class() -> None:
    table = many(3)
    found = [w for w in wanted(table, suspects(table).head(0)) if w.pair == ("c0", "c1")]
    target = table.set_index("utterance_id")["target"]
    wrong = table.set_index("utterance_id")["n_wrong"]
    assert [w.is_example for w in found] == [False, False, True, True]
    assert [target[w.utterance_id] for w in found] == ["c0", "c0", "c0", "c1"]
    assert [wrong[w.utterance_id] > 0 for w in found] == [True, True, False, False]


def test_the_first_of_every_kind_comes_before_the_second_of_any() -> None:
    table = many()
    kinds = [w.kind for w in wanted(table, suspects(table))]
    assert kinds.index(SUSPECT) < 5  # behind the clips of one pair
    assert set(kinds[:6]) == {PAIR, SUSPECT, HARD}


def test_label_sets_have_hard_clips_alone() -> None:
    table = many()
    assert {w.kind for w in wanted(table, suspects(table).head(0), sets=True)} == {HARD}


def test_nothing_is_wanted_where_nothing_is_wrong() -> None:
    right = utterances([("a", "x", "", 0), ("b", "y", "", 0)])
    assert wanted(right, suspects(right)) == []
