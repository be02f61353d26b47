"""What is behind each address: the page, how far it is, clips that a filter lets through, one clip.

Nothing is written, and no address holds a path: numbers and texts of an address are looked up in the results.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.audio.segment import AudioError
from featurestore.errors import ConfigError, UserError
from featurestore.printable import on_page
from probes.findings.mistakes import by_utterance
from probes.report.clips.embedded_keys import EmbeddedAudio, EmbeddedKeys
from probes.report.clips.mistakes import number, place_text
from probes.report.clips.section import clip_at, looks
from probes.report.data import load_report_data
from probes.report.html import render_shell
from probes.report.served.answers import Answers, Tally
from probes.report.served.building import Building, PageRequest
from probes.report.served.query import (
    PAGE_ROWS,
    Filter,
    UtteranceQuery,
    table_query,
    utterance_query,
)

# Texts under this name are sent as they are, to be sent back.
AS_IS = "asIs"
HTML, JSON = "text/html; charset=utf-8", "application/json; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What comes back: HTTP status, media type, and the text."""

    status: int
    kind: str
    text: str


class Site:
    """A results folder as it is served.

    Args:
        results: The folder.
        oracle: The page also says what the layer would score that the test rows themselves prefer.
        store: Where the feature store is now; None: where `fs probe` read it, if on this machine.

    Raises:
        StoreError: there are no results.
        CorruptData: a file cannot be read.
    """

    def __init__(self, results: Path, *, oracle: bool, store: str | None) -> None:
        self._data = load_report_data(results)
        self._answers = Answers(self._data)
        self._keys = EmbeddedKeys(self._data.path, self._data.run, store)
        self._building = Building(PageRequest(results=str(results), oracle=oracle, store=store))
        self._audio: dict[int, EmbeddedAudio] = {}
        self._audio_lock = threading.Lock()
        self._shell = render_shell(self._data)
        self._n_batches = 0
        self._failure: BaseException | None = None
        self._pages: dict[str, Callable[[str], Answer]] = {
            "": self._page,
            "state": self._state,
            "utterances": self._utterances,
            "suspects": self._suspects,
            "utterance": self._utterance,
        }

    def start(self, on_failure: Callable[[], None]) -> None:
        """Begin to read predictions and to make the page; `on_failure`: called where that cannot be done."""

        def work(*parts: Callable[[], None]) -> None:
            try:
                for part in parts:
                    part()
            except Exception as error:
                self._failure = self._failure or error
                on_failure()

        for parts in ((self._hold, self._find_audio), (self._building.run,)):
            threading.Thread(target=work, args=parts, daemon=True).start()

    def stop(self) -> None:
        """End what `start` began.

        Raises:
            UserError: what could not be read.
        """
        self._building.stop()
        if self._failure is not None:
            raise self._failure

    def answer(self, name: str, query: str) -> Answer:
        """What is behind a name; `query`: what stands behind the question mark."""
        page = self._pages.get(name)
        if page is None:
            return Answer(404, JSON, _json({"error": "there is nothing of that name"}))
        try:
            return page(query)
        except ConfigError as error:
            return Answer(400, JSON, _json({"error": str(error)}))
        except UserError as error:
            return Answer(500, JSON, _json({"error": str(error)}))

    def _hold(self) -> None:
        def step() -> None:
            self._n_batches += 1

        self._answers.hold(step)

    def _find_audio(self) -> None:
        for asked in range(len(self._answers.asked)):
            self._audio_of(asked)

    def _page(self, query: str) -> Answer:
        return Answer(200, HTML, self._building.page or self._shell)

    def _state(self, query: str) -> Answer:
        stage, done, total = self._building.stage
        state = {
            "stage": stage,
            "done": done,
            "total": total,
            "failure": self._building.failure,
            "isReady": self._building.page is not None,
            "hasSuspects": self._building.suspects is not None,
            "nRead": self._n_batches,
            "nBatches": len(self._answers.batches),
        }
        return Answer(200, JSON, _json(state))

    def _utterances(self, query: str) -> Answer:
        asked = table_query(query)
        found = self._answers.found(asked.choice, asked.rows)
        page, at = _page_of(len(found.utterance), asked.page)
        tallies = {t.asked: t for t in self._answers.tallies(asked.choice)}
        rows: dict[tuple[int, int], dict[str, Any]] = {}
        for of in np.unique(found.asked[at]):
            numbers = found.utterance[at][found.asked[at] == of]
            rows |= self._rows(tallies[int(of)], numbers)
        order = zip(found.asked[at].tolist(), found.utterance[at].tolist(), strict=True)
        return _table(
            page,
            len(found.utterance),
            [rows[key] for key in order],
            nTested=found.n_tested,
            classes=self._classes(tallies),
        )

    def _rows(self, tally: Tally, numbers: np.ndarray) -> dict[tuple[int, int], dict[str, Any]]:
        """Lines of the table, by number of label and clip."""
        table = by_utterance(self._answers.of_clips(tally, numbers))
        audio = self._audio.get(tally.asked) or EmbeddedAudio()
        ids = self._answers.asked[tally.asked].ids
        return {
            (tally.asked, int(ids.code(row["utterance_id"]) or 0)): {
                **self._place(tally.asked, row),
                "true": row["target"],
                "taken": row["mistaken_for"],
                "wrong": f"{row['n_wrong']} of {row['n_answers']}",
                "p": number(row["p_target"]),
                "group": row["group"],
            }
            for row in audio.with_places(table).to_dict("records")
        }

    def _place(self, asked: int, row: dict[Any, Any]) -> dict[str, Any]:
        """Of a line, which clip it is of."""
        of = self._answers.asked[asked]
        several = len(self._answers.asked) > 1
        return {
            "asked": asked,
            "utterance": of.ids.code(row["utterance_id"]),
            "id": row["utterance_id"],
            "place": place_text(row),
            "of": f"{of.label} · {of.dataset}" if several else "",
        }

    def _classes(self, tallies: dict[int, Tally]) -> dict[str, list[str]]:
        """Classes that can be chosen: to be shown, and as they are."""
        names = sorted({name for asked in tallies for name in self._answers.asked[asked].classes()})
        return {"shown": names, AS_IS: names}

    def _suspects(self, query: str) -> Answer:
        asked = table_query(query)
        known = self._building.suspects
        if known is None:
            return _table(1, 0, [], waits=True)
        chosen = asked.choice.questions
        parts, reasons = [], []
        for i, found in enumerate(known):
            if chosen is not None and i not in chosen:
                continue
            if found.reason:
                reasons.append(f"{self._data.questions[i].title}: {found.reason}.")
            parts.append(_narrowed(found.table, asked.rows).assign(question=i))
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        page, at = _page_of(len(table), asked.page)
        rows = [self._suspect(row) for row in table.iloc[at].to_dict("records")]
        return _table(page, len(table), rows, reasons=reasons)

    def _suspect(self, row: dict[Any, Any]) -> dict[str, Any]:
        question = row["question"]
        asked = next(i for i, of in enumerate(self._answers.questions_of_asked) if question in of)
        audio = self._audio.get(asked) or EmbeddedAudio()
        placed = audio.with_places(pd.DataFrame([row])).to_dict("records")[0]
        several = len(self._answers.questions_of_asked[asked]) > 1
        place = self._place(asked, placed)
        return {
            **place,
            "of": self._data.questions[question].title if several else place["of"],
            "label": row["label"],
            "suggested": row["suggested"],
            "margin": number(row["margin"]),
            "pLabel": number(row["p_label"]),
            "pSuggested": number(row["p_suggested"]),
        }

    def _utterance(self, query: str) -> Answer:
        asked = utterance_query(query)
        known = self._answers.asked
        if asked.asked >= len(known) or asked.utterance >= len(known[asked.asked].ids):
            return Answer(404, JSON, _json({"error": "no test clip has that number"}))
        tallies = [t for t in self._answers.tallies(asked.choice) if t.asked == asked.asked]
        lines = [line for tally in tallies for line in self._lines(tally, asked)]
        utterance_id = str(known[asked.asked].ids.texts()[asked.utterance])
        return Answer(200, JSON, _json({"id": utterance_id, "answers": lines, **self._clip(asked)}))

    def _lines(self, tally: Tally, asked: UtteranceQuery) -> list[dict[str, Any]]:
        """What each chosen fit said of a clip."""
        said = self._answers.of_clips(tally, np.array([asked.utterance]))
        lines = []
        for row in said.to_dict("records"):
            fit = tally.fits[row["fit"]]
            question = self._data.questions[fit.question]
            where = f"split seed {fit.split_seed}, fold {fit.fold}, seed {fit.seed}"
            lines.append(
                {
                    "model": self._data.models[fit.model],
                    "layers": fit.layers,
                    "how": f"{question.setting}, {where}",
                    "said": row["prediction"],
                    "p": number(row["p_target"]),
                    "right": row["prediction"] == row["target"],
                }
            )
        return lines

    def _audio_of(self, asked: int) -> EmbeddedAudio:
        """Where the audio of a label's clips is, asked of its questions one after the other."""
        with self._audio_lock:
            if asked not in self._audio:
                for question in self._answers.questions_of_asked[asked]:
                    self._audio[asked] = self._keys.of(self._data.questions[question])
                    if not self._audio[asked].reason:
                        break
            return self._audio[asked]

    def _clip(self, asked: UtteranceQuery) -> dict[str, Any]:
        """The sound and its picture, or why there is none."""
        audio = self._audio_of(asked.asked)
        if audio.reason:
            return {"noSound": f"No sound: {audio.reason}."}
        utterance_id = str(self._answers.asked[asked.asked].ids.texts()[asked.utterance])
        try:
            clip = clip_at(audio, utterance_id)
        except AudioError as error:
            return {"noSound": f"No sound: {error}."}
        if clip is None:
            return {"noSound": "No sound: the store does not hold this clip."}
        return {"clip": looks(clip, audio, utterance_id)}


def _narrowed(table: pd.DataFrame, rows: Filter) -> pd.DataFrame:
    """Suspects that a filter lets through, in their order."""
    if rows.of_class is not None:
        table = table[table["label"] == rows.of_class]
    if rows.taken is not None:
        table = table[table["suggested"] == rows.taken]
    if rows.text:
        table = table[table["utterance_id"].str.contains(rows.text, case=False, regex=False)]
    return table


def _page_of(n: int, page: int) -> tuple[int, slice]:
    """The page that is shown, the last where there are fewer, and its rows."""
    page = min(page, max(1, math.ceil(n / PAGE_ROWS)))
    return page, slice((page - 1) * PAGE_ROWS, page * PAGE_ROWS)


def _table(page: int, n: int, rows: list[dict[str, Any]], **more: Any) -> Answer:
    pages = max(1, math.ceil(n / PAGE_ROWS))
    return Answer(200, JSON, _json({"page": page, "nPages": pages, "n": n, "rows": rows, **more}))


def _json(value: Any) -> str:
    """JSON whose texts are as pages show them."""
    return json.dumps(_shown(value), allow_nan=False)


def _shown(value: Any, *, as_is: bool = False) -> Any:
    if isinstance(value, dict):
        return {k: _shown(v, as_is=as_is or k == AS_IS) for k, v in value.items()}
    if isinstance(value, list):
        return [_shown(v, as_is=as_is) for v in value]
    return on_page(value) if isinstance(value, str) and not as_is else value
