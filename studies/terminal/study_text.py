"""How the plan of a study looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from featurestore.printable import counted, plain
from studies.terminal.console import format_bytes, format_duration
from studies.terminal.screen import console

if TYPE_CHECKING:
    from rich.table import Table

    from studies.study_run.forecast import Forecast
    from studies.study_run.key_plan import KeyState
    from studies.study_run.probe_state import ProbingState
    from studies.study_run.readiness import Readiness

UNKNOWN = "unknown until measured"


def print_key_states(states: Sequence[KeyState]) -> None:
    """What there is of every model and corpus, and what is left."""
    from studies.study_run.key_plan import total

    table = _table("model", "corpus", "layers", "in the store", "to embed", "audio", "values", "time")
    for state in states:
        table.add_row(plain(state.model), plain(state.corpus), state.layers, *_cells(state))
    if len(states) > 1:
        table.add_section()
        table.add_row("all", "", "", *_cells(total(states)))
    out = console()
    out.print(table)
    for rate, models in _rates(states).items():
        out.print(f"{rate}: {', '.join(models)}", style="dim")
    for state in states:
        if state.problem:
            out.print(f"{state.model}/{state.corpus}: {state.problem}", style="red")
        elif state.changes:
            out.print(f"{state.model}/{state.corpus}: the manifest changed: {state.changes}")


def _cells(state: KeyState) -> list[str]:
    there = f"{state.n_rows - state.n_to_do:,} of {state.n_rows:,}"
    if state.problem:
        return ["refused", "", "", "", ""]
    if not state.units:
        return [there, "0", "", "", ""]
    time = UNKNOWN if state.estimate_s is None else f"about {format_duration(state.estimate_s)}"
    hours = f"{state.audio_s / 3600:.2f} h"
    return [there, f"{state.n_to_do:,}", hours, format_bytes(state.n_bytes), time]


def _rates(states: Iterable[KeyState]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for state in states:
        if state.rate is not None and state.units:
            where = f" on {state.rate.devices}" if state.rate.devices else ""
            text = f"measured earlier, {state.rate.real_time:.1f}× real time{where}"
            found.setdefault(text, []).append(state.model)
    return {text: list(dict.fromkeys(models)) for text, models in found.items()}


def print_readiness(found: Sequence[Readiness]) -> None:
    """How far every key is, as the store tells."""
    table = _table("model", "corpus", "in the store", "state")
    for key in found:
        there = f"{key.n_done:,} of {key.n_rows:,}" if key.info is not None else ""
        table.add_row(plain(key.pair[0]), plain(key.pair[1]), there, plain(key.lacks or "complete"))
    console().print(table)


def print_probing_states(states: Sequence[ProbingState]) -> None:
    """What is fitted of every probing, and what is left."""
    table = _table("probing", "fits done", "fits to do", "time", "on keys to be embedded")
    for state in states:
        n_keys = len(dict.fromkeys(state.waiting))
        fits = "" if state.n_waiting is None else f"{counted(state.n_waiting, 'fit')} on "
        waits = f"{fits}{counted(n_keys, 'key')}" if n_keys else ""
        time = ""
        if state.n_to_do or state.waiting:
            time = UNKNOWN if state.estimate_s is None else f"about {format_duration(state.estimate_s)}"
        cells = ["", ""] if state.problem else [f"{state.n_done:,}", f"{state.n_to_do:,}"]
        table.add_row(plain(state.name), *cells, time, waits)
    out = console()
    out.print(table)


def print_forecasts(forecasts: Sequence[Forecast]) -> None:
    """What the plan predicted, beside what the run took."""
    for one in forecasts:
        form = format_bytes if one.unit == "bytes" else format_duration
        verb = "written" if one.unit == "bytes" else "taken"
        taken, predicted = form(one.taken), "no rate was on record"
        if one.predicted is not None and one.ratio is not None:
            predicted = f"{form(one.predicted)} predicted by {one.by} ({one.ratio:.2f} times)"
        console().print(f"plan and run: {one.what}: {taken} {verb}, {predicted}", style="dim")


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_number = column in (
            "in the store",
            "to embed",
            "audio",
            "values",
            "time",
            "fits done",
            "fits to do",
        )
        table.add_column(column, justify="right" if is_number else "left")
    return table
