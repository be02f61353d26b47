"""The calls that make a results folder again, from the audio on, in an empty folder.

What a call writes is written there, under the last part of its name; what nobody but the user can make
(audio, models, tables by hand) is read where it was, and so is a store whose making is not on record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from featurestore.calls import Call, Slot, TableRecord, Word
from featurestore.printable import json_text, printable, shell_word, shell_words
from featurestore.store.history import MOST_CALLS
from probes.results.results_folder import calls_of, store_of

LINE = 100


class Reproduction:
    """The calls behind a results folder, one after the other, with the names they go by in an empty folder.

    Args:
        results: the folder.
        run: its ``_run.json``.
    """

    def __init__(self, results: Path, run: Mapping[str, Any]) -> None:
        self.calls = calls_of(run)
        self._taken: set[str] = set()
        # Without calls there is nothing to make: the folder is read where it is.
        self.results = self._name(results.resolve().name or "results") if self.calls else str(results)
        made = [c for c in self.calls if any(is_known(h) for h in histories_of(c).values())]
        self._stores = {s: self._name(_last_part(s)) for s in dict.fromkeys(map(place_of, made))}
        self._tables: dict[str, str] = {}  # path → its name here
        self._held: dict[str, TableRecord] = {}  # name here → what is under it by now
        self._done: dict[tuple[str, str], list[Call]] = {}
        self._unknown: set[str] = set()
        self._n_grids = 0

    def store(self, call: Mapping[str, Any]) -> str:
        """The store of a call of `fs probe`: its name here, or where it is."""
        return self._stores.get(place_of(call), place_of(call))

    def report(self) -> str:
        """The call of `fs report`."""
        return shell_words(["fs", "report", self.results, "--out", self._name("report")])

    def grid(self, call: Mapping[str, Any]) -> tuple[list[str], str | None]:
        """The command that writes the grid of a call, and its name; nothing where it has none."""
        grid = call["config"].get("grid")
        if not grid:
            return [], None
        self._n_grids += 1
        name = self._name("grid.json" if self._n_grids == 1 else f"grid-{self._n_grids}.json")
        text = shell_word(json_text(grid))
        return [f"printf '%s\\n' {text} > {shell_word(name)}"], name

    def before(self, call: Mapping[str, Any]) -> list[str]:
        """What has to be done before a call of `fs probe` so that its keys are what they were."""
        store = place_of(call)
        lines: list[str] = []
        if store not in self._stores and store not in self._unknown:
            self._unknown.add(store)
            lines.append(remark(f"{store} is read where it is: how it was made is not on record"))
        if store in self._stores:
            for path, history in sorted(histories_of(call).items()):
                lines += self._key(store, path, history)
        return _with_remarks(lines)

    def _key(self, store: str, path: str, history: list[Call]) -> list[str]:
        done = self._done.get((store, path))
        lines: list[str] = []
        here, (model, _, dataset) = self._stores[store], path.partition("/")
        key = ["--model", model, "--dataset", dataset]
        self._done[store, path] = history
        if done is not None and history[: len(done)] != done:
            lines.append(join(["rm", here, *key, "--yes"]))  # it was replaced in between
            done = None
        if not is_known(history):
            if done is None:
                lines.append(remark(f"how {path} was made is not on record: it is copied"))
                lines.append(join(["cp", store, here, *key]))
            return lines
        for call in without_repetition(history[len(done or []) :]):
            lines += self._call(call, here, path)
        if len(history) == MOST_CALLS:
            lines.append(remark(f"{path}: what was done after {MOST_CALLS} calls is not on record"))
        return lines

    def _call(self, call: Call, store: str, path: str) -> list[str]:
        if not call.words:
            return [remark(f"a call that changed {path} stood here; its record was damaged")]
        fill = {Slot.STORE: store}
        lines: list[str] = []
        if call.table is not None:
            lines, fill[Slot.TABLE] = self._table(call.table)
        return [*lines, join(call.words, fill)]

    def _table(self, table: TableRecord) -> tuple[list[str], str]:
        """How a table comes about, where that is still to be done, and where it is then."""
        if table.made_by and not table.is_changed:
            name = self._tables.get(table.path) or self._name(_last_part(table.path))
            self._tables[table.path] = name
            if self._held.get(name) == table:
                return [], name
            self._held[name] = table
            return [remark(f"{name}: {_size(table)}"), join(table.made_by, {Slot.TABLE: name})], name
        if self._held.get(table.path) == table:
            return [], table.path
        self._held[table.path] = table
        edited = "; `fs manifest` made it, and it was changed after that" if table.is_changed else ""
        return [remark(f"needs the table {table.path}: {_size(table)}{edited}")], table.path

    def _name(self, wanted: str) -> str:
        """A name in the empty folder that nothing else has."""
        path, n = PurePosixPath(wanted), 1
        name = wanted
        while name in self._taken:
            n += 1
            name = f"{path.stem}-{n}{path.suffix}"
        self._taken.add(name)
        # What begins with a dash would be taken for an option.
        return f"./{name}" if name.startswith("-") else name


def place_of(call: Mapping[str, Any]) -> str:
    """The store of a call, with one spelling for one place."""
    store = store_of(call)
    return store if "://" in store else os.path.normpath(store)


def histories_of(call: Mapping[str, Any]) -> dict[str, list[Call]]:
    """The calls that had made each key of a call of `fs probe`; none in folders of earlier versions."""
    return {path: [_read(c) for c in calls] for path, calls in call.get("keys", {}).items()}


def is_known(history: Sequence[Call]) -> bool:
    """Whether a history begins at the beginning."""
    return bool(history) and history[0].makes_key and not history[0].follows_unrecorded


def without_repetition(history: Sequence[Call]) -> list[Call]:
    """A history without runs of calls that repeat the run before them: they set again what they had set."""
    kept: list[Call] = []
    for call in history:
        kept.append(call)
        for n in range(1, len(kept) // 2 + 1):
            if kept[-n:] == kept[-2 * n : -n]:
                del kept[-n:]
                break
    return kept


def join(words: Sequence[Word], fill: Mapping[Slot, str] | None = None) -> str:
    """A call as a shell reads it; a long one with a line for each option."""
    texts = [shell_word(w if isinstance(w, str) else (fill or {})[w]) for w in ("fs", *words)]
    line = " ".join(texts)
    if len(line) <= LINE:
        return line
    parts: list[list[str]] = [[]]
    for text in texts:
        if text.startswith("--"):
            parts.append([])
        parts[-1].append(text)
    return " \\\n  ".join(" ".join(part) for part in parts)


def remark(text: str) -> str:
    """A comment of the shell: one line, whatever the text holds."""
    return f"# {printable(text)}"


def _with_remarks(lines: Sequence[str]) -> list[str]:
    """Every remark together with the command that it is about."""
    blocks: list[str] = []
    open_remark = False
    for line in lines:
        if open_remark:
            blocks[-1] += f"\n{line}"
        else:
            blocks.append(line)
        open_remark = line.startswith("#")
    return blocks


def _read(value: Any) -> Call:
    try:
        return Call.from_json(value)
    except ValueError:
        return Call(words=())


def _last_part(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2] or "store"


def _size(table: TableRecord) -> str:
    return f"{table.n_rows} rows, " + (f"SHA-256 {table.sha256}" if table.sha256 else "which was no file")
