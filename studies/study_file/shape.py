"""From plain values to a `Study`: what has another shape is a mistake, and is left out to find more."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from featurestore.untrusted.schema_mistakes import Place, mistake_place, mistake_text
from studies.study_file.document import Document
from studies.study_file.mistakes import Found
from studies.study_file.schema import Study

# Rounds of leaving out what is wrong: each leaves out one level.
_MOST_ROUNDS = 12


def study_of(document: Document, found: Found) -> Study | None:
    """The study of a document; parts that are wrong are noted and left out.

    Returns:
        None where too little is left to look further.
    """
    value = copy.deepcopy(document.value)
    for _ in range(_MOST_ROUNDS):
        try:
            return Study.model_validate(value)
        except ValidationError as error:
            for one in error.errors():
                _note(one, found)
            for one in sorted(error.errors(), key=lambda e: -len(e["loc"])):
                _leave_out(value, mistake_place(one))
    return None


def _note(error: Mapping[str, Any], found: Found) -> None:
    place = mistake_place(error)
    is_missing = error["type"] == "missing"
    if error["type"] in ("missing", "too_short") and found.has_below(place):
        return  # left out since it was wrong
    found.add(place[:-1] if is_missing else place, mistake_text(error, Study))


def _leave_out(value: Any, place: Place) -> None:
    """Take out what stands at a place, or the innermost thing around it that is there."""
    for n in range(len(place), 0, -1):
        at = value
        try:
            for part in place[: n - 1]:
                at = at[part]
            del at[place[n - 1]]
        except (KeyError, IndexError, TypeError):
            continue
        return
