"""What an address asks for: numbers of what the results hold, and texts that are looked up in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from featurestore.errors import ConfigError

# The server takes lines of 65,536.
MOST_CHARACTERS = 60_000
HARDEST, BY_ID = "hardest", "id"
ALL, WRONG, RIGHT = "all", "wrong", "right"
CHOSEN, EVERY = "chosen", "every"
PAGE_ROWS = 50
# Of a page's number: more rows than any results have.
_MOST = 10**9
_OF_CHOICE = ("questions", "models", "lowest", "highest", "layers")
_OF_ROWS = ("answer", "class", "taken", "text", "order", "page")
_OF_UTTERANCE = ("asked", "utterance")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which fits are looked at.

    Attributes:
        questions: Numbers of questions; None: all.
        models: Numbers of models; None: all.
        lowest, highest: Layers, both included; None: no bound. Combinations of layers have none.
        layers: `CHOSEN`: of each model the layer that validation chose; `EVERY`: all that were probed.
    """

    questions: frozenset[int] | None = None
    models: frozenset[int] | None = None
    lowest: int | None = None
    highest: int | None = None
    layers: str = CHOSEN


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which utterances are shown, and in what order.

    Attributes:
        answer: `ALL`, `WRONG` (by at least one fit), or `RIGHT` (by all).
        of_class: Its true class; None: any. Of label sets one of them.
        taken: The class that at least one fit took it for; None: any.
        text: What its id holds, in any case; "": anything.
        order: `HARDEST`, or `BY_ID`.
    """

    answer: str = ALL
    of_class: str | None = None
    taken: str | None = None
    text: str = ""
    order: str = HARDEST


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked of a table: which fits, which rows, and which page of them, from 1."""

    choice: Choice
    rows: Filter
    page: int = 1


@dataclass(frozen=True, kw_only=True)
class UtteranceQuery:
    """One utterance: the number of the label it was asked for, its own number, and which fits."""

    choice: Choice
    asked: int
    utterance: int


def table_query(text: str) -> Query:
    """The query of a table; `text`: what stands behind the question mark.

    Raises:
        ConfigError: it has a name or a value that cannot be.
    """
    values = _values(text, (*_OF_CHOICE, *_OF_ROWS))
    rows = Filter(
        answer=_one_of(values, "answer", (ALL, WRONG, RIGHT)),
        of_class=values.get("class"),
        taken=values.get("taken"),
        text=values.get("text", ""),
        order=_one_of(values, "order", (HARDEST, BY_ID)),
    )
    return Query(choice=_choice(values), rows=rows, page=max(1, _number(values, "page") or 1))


def utterance_query(text: str) -> UtteranceQuery:
    """The query of one utterance.

    Raises:
        ConfigError: as of `table_query`, or a number is missing.
    """
    values = _values(text, (*_OF_CHOICE, *_OF_UTTERANCE))
    asked, utterance = (_number(values, name) for name in _OF_UTTERANCE)
    if asked is None or utterance is None:
        raise ConfigError("expected asked and utterance, got one of them or none")
    return UtteranceQuery(choice=_choice(values), asked=asked, utterance=utterance)


def _choice(values: Mapping[str, str]) -> Choice:
    return Choice(
        questions=_numbers(values, "questions"),
        models=_numbers(values, "models"),
        lowest=_number(values, "lowest"),
        highest=_number(values, "highest"),
        layers=_one_of(values, "layers", (CHOSEN, EVERY)),
    )


def _values(text: str, known: tuple[str, ...]) -> dict[str, str]:
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"expected at most {MOST_CHARACTERS} characters, got {len(text)}")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=len(known), errors="strict")
    except ValueError as error:
        raise ConfigError(f"expected names and values, got what cannot be read ({error})") from None
    odd = [name for name, _ in pairs if name not in known]
    if odd or len(dict(pairs)) < len(pairs):
        raise ConfigError(f"expected each of {', '.join(known)} once at most; got {odd or 'one twice'}")
    return dict(pairs)


def _one_of(values: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    value = values.get(name, known[0])
    if value not in known:
        raise ConfigError(f"{name}: expected {', '.join(known)}; got {value[:40]!r}")
    return value


def _number(values: Mapping[str, str], name: str) -> int | None:
    value = values.get(name, "")
    return None if value == "" else _whole(value, name)


def _numbers(values: Mapping[str, str], name: str) -> frozenset[int] | None:
    if name not in values:
        return None
    return frozenset(_whole(part, name) for part in values[name].split(",") if part)


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_MOST))):
        raise ConfigError(f"{name}: expected a whole number from 0, got {text[:40]!r}")
    return int(text)
