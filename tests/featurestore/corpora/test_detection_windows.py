from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.corpora.detection_windows import LabelledStretch, cut_windows
from featurestore.manifest.labels import split_labels


def published_rule(length, marks, width, shift):
    """The rule of BEANS, told once more in loops: which windows, which labels in each."""
    told = []
    for i in range(int((length - width) / shift) + 1):
        a, b = i * shift, i * shift + width
        names = set()
        for on, off, name in marks:
            if on <= a and b <= off:
                names.add(name)
            elif a <= on <= b or a <= off <= b:
                shorter = min(b - a, off - on)
                if shorter != 0 and (min(b, off) - max(a, on)) / shorter > 0.2:
                    names.add(name)
        told.append((a, min(b, length), names))
    return told


def test_windows_written_out() -> None:
    events = [
        LabelledStretch(start_s=0.5, end_s=1.0, label="A"),
        LabelledStretch(start_s=2.75, end_s=3.75, label="B"),
        LabelledStretch(start_s=1.9, end_s=2.3, label="C"),
        LabelledStretch(start_s=4.0, end_s=4.0, label="point"),
    ]
    cut = cut_windows(5.5, events, window_s=2, shift_s=1)
    assert [(w.start_s, w.end_s, sorted(split_labels(w.label))) for w in cut] == [
        (0, 2, ["A", "C"]),
        (1, 3, ["B", "C"]),
        (2, 4, ["B", "C"]),
        (3, 5, ["B"]),
    ]


def test_a_fifth_is_not_enough_and_more_is() -> None:
    exactly = LabelledStretch(start_s=1.5, end_s=4.0, label="A")  # 0.5 of 2.5 s, window 0-2: 0.5 / 2 = 0.25
    under = LabelledStretch(start_s=1.75, end_s=4.0, label="B")  # 0.25 / 2 = 0.125
    border = LabelledStretch(start_s=1.5, end_s=4.0, label="C")
    (first, *_) = cut_windows(6, [exactly, under, border], window_s=2, shift_s=2)
    assert split_labels(first.label) == {"A", "C"}
    (only,) = cut_windows(10, [LabelledStretch(start_s=8, end_s=28, label="D")], window_s=10, shift_s=5)
    assert split_labels(only.label) == frozenset()  # 2 of 10 s is a fifth, not more


def test_an_event_that_covers_the_window_counts() -> None:
    cut = cut_windows(32, [LabelledStretch(start_s=5, end_s=24, label="A")], window_s=4, shift_s=4)
    assert [len(split_labels(w.label)) for w in cut] == [0, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("length_s", "expected"),
    [(10, [(0, 10)]), (14.9, [(0, 10)]), (15, [(0, 10), (5, 15)]), (5.1, [(0, 5.1)]), (5, []), (0, [])],
)
def test_recordings_about_as_long_as_a_window(length_s: float, expected: list) -> None:
    cut = cut_windows(length_s, [], window_s=10, shift_s=5)
    assert [(w.start_s, w.end_s) for w in cut] == expected


marks = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 60), st.sampled_from("ABC")).map(
        lambda t: (t[0] / 8, (t[0] + t[1]) / 8, t[2])
    ),
    max_size=8,
)


@given(length=st.integers(1, 200), marks=marks, width=st.sampled_from([2, 4, 10]))
def test_the_published_rule_holds(length: int, marks: list, width: int) -> None:
    length_s = length / 8
    events = [LabelledStretch(start_s=a, end_s=b, label=n) for a, b, n in marks]
    cut = cut_windows(length_s, events, window_s=width, shift_s=width / 2)
    expected = published_rule(length_s, marks, width, width / 2)
    assert [(w.start_s, w.end_s, set(split_labels(w.label))) for w in cut] == expected
    assert not np.isnan([w.end_s for w in cut]).any()
