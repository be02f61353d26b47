"""What went wrong, clip by clip: mistakes, likely wrong labels, and where their audio is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from featurestore.printable import counted
from probes.findings.mislabelled import EVIDENCE, MEASURE, Mislabelled, mislabelled
from probes.findings.mistakes import answers_of, by_utterance, mistakes
from probes.report.clips.embedded_keys import EmbeddedAudio, EmbeddedKeys
from probes.report.progress import Progress
from probes.results.selection import MAP, R2

if TYPE_CHECKING:
    import pandas as pd

    from probes.report.data import ReportData, ReportedQuestion

QUESTION_COLUMNS = ("dataset", "label_column", "classifier", "split")
MISTAKE_COLUMNS = (
    *QUESTION_COLUMNS,
    "utterance_id",
    "file",
    "start_s",
    "end_s",
    "channel",
    "true",
    "predicted",
    "p_predicted",
    "p_true",
    "group",
    "model",
    "layers",
    "seed",
    "split_seed",
    "fold",
)
SUSPECT_COLUMNS = (
    *QUESTION_COLUMNS,
    "suspect_rank",
    "utterance_id",
    "file",
    "start_s",
    "end_s",
    "channel",
    *EVIDENCE,
    "model",
)
SHOWN_ROWS = 10


@dataclass(frozen=True, eq=False)
class QuestionMistakes:
    """The test predictions behind the answer of a question.

    Attributes:
        question: Which.
        answers: `probes.findings.mistakes.answers_of`; empty where no predictions were kept.
        audio: Of its utterances.
    """

    question: ReportedQuestion
    answers: pd.DataFrame
    audio: EmbeddedAudio

    @property
    def is_sets(self) -> bool:
        """Whether labels are sets: a prediction is wrong where any of them is."""
        return self.question.metric == MAP

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """One row per utterance, see `probes.findings.mistakes.by_utterance`."""
        return by_utterance(self.answers)

    @cached_property
    def suspects(self) -> Mislabelled:
        """Utterances that are likely mislabelled."""
        if self.is_sets:
            nobody = mislabelled(self.answers.head(0)).table
            return Mislabelled(
                table=nobody, n_judged=0, reason="labels are sets, of which no two exclude each other"
            )
        return mislabelled(self.answers)


def mistakes_of(data: ReportData, keys: EmbeddedKeys) -> list[QuestionMistakes]:
    """What went wrong in every question of classes; `keys` know where its audio is."""
    from probes.results.results_folder import StoredPredictions

    stored = StoredPredictions(data.path)
    questions = [q for q in data.questions if q.metric != R2]  # a number is not right or wrong
    step, found = data.progress.stage("mistakes", len(questions)), []
    for q in questions:
        found.append(QuestionMistakes(q, answers_of(stored, q.answer_fits), keys.of(q)))
        step()
    return found


def mistakes_table(found: list[QuestionMistakes]) -> pd.DataFrame:
    """One row per wrong test prediction, columns `MISTAKE_COLUMNS`."""
    names = {"target": "true", "prediction": "predicted", "p_prediction": "p_predicted", "p_target": "p_true"}
    return _table(
        [(f, f.audio.with_places(mistakes(f.answers)).rename(columns=names)) for f in found], MISTAKE_COLUMNS
    )


def suspects_table(found: list[QuestionMistakes]) -> pd.DataFrame:
    """One row per utterance that is likely mislabelled, columns `SUSPECT_COLUMNS`."""
    tables = [(f, f.audio.with_places(f.suspects.table)) for f in found]
    return _table([(f, t.assign(model=str(f.question.answer["model"]))) for f, t in tables], SUSPECT_COLUMNS)


def _table(parts: list[tuple[QuestionMistakes, pd.DataFrame]], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    named = [
        table.assign(**dict(zip(QUESTION_COLUMNS, found.question.name, strict=True)))
        for found, table in parts
        if len(table)
    ]
    return (
        pd.concat(named, ignore_index=True)[list(columns)] if named else pd.DataFrame(columns=list(columns))
    )


def page_context(
    found: list[QuestionMistakes], sounds_mb: float, progress: Progress | None = None
) -> dict[str, Any]:
    """What the page shows: sounds, the first mistakes and suspects of every question, how to read them."""
    from probes.report.clips.section import note, sound_sections

    return {
        "sounds": sound_sections(found, sounds_mb, progress or Progress()),
        "sounds_note": note(sounds_mb),
        "mistakes": [_shown(f) for f in found],
        "suspects_note": f"{MEASURE} Only tested clips are judged; a split with folds, such as "
        "group-kfold:5, tests all of them.",
    }


def _shown(found: QuestionMistakes) -> dict[str, Any]:
    """The first rows of a question's mistakes and suspects, as text, and a sentence on all of them."""
    utterances, suspects = found.utterances, found.suspects
    wrong = utterances[utterances["n_wrong"] > 0]
    tested = counted(len(utterances), "test clip")
    mistaken = f"{len(wrong):,} of {tested} {'are' if len(wrong) != 1 else 'is'} taken for another class"
    mistaken += " by at least one fit" if (utterances["n_answers"] > 1).any() else ""
    doubted = f"{len(suspects.table):,} of {tested} are likely mislabelled{_first(suspects.table)}."
    return {
        "title": found.question.title,
        "no_audio": found.audio.reason,
        "mistakes_caption": f"{mistaken}{_first(wrong)}.",
        "mistakes": [_mistake(row) for row in _head(found, wrong)],
        "suspects_caption": f"No suspects: {suspects.reason}." if suspects.reason else doubted,
        "suspects": [_suspect(row) for row in _head(found, suspects.table)],
    }


def _first(table: pd.DataFrame) -> str:
    return f"; the first {SHOWN_ROWS}" if len(table) > SHOWN_ROWS else ""


def _head(found: QuestionMistakes, table: pd.DataFrame) -> list[dict[Any, Any]]:
    return found.audio.with_places(table.head(SHOWN_ROWS)).to_dict("records")


def _mistake(row: dict[Any, Any]) -> dict[str, str]:
    return {
        "utterance": row["utterance_id"],
        "place": place_text(row),
        "true": row["target"],
        "predicted": row["mistaken_for"],
        "wrong": f"{row['n_wrong']} of {row['n_answers']}",
        "p": number(row["p_target"]),
        "group": row["group"],
    }


def _suspect(row: dict[Any, Any]) -> dict[str, str]:
    return {
        "utterance": row["utterance_id"],
        "place": place_text(row),
        "label": row["label"],
        "suggested": row["suggested"],
        "margin": number(row["margin"]),
        "p_label": number(row["p_label"]),
        "p_suggested": number(row["p_suggested"]),
    }


def place_text(row: dict[Any, Any]) -> str:
    """``call.wav, 1.5 to 2 s, channel 1``; "" where the place is not known."""
    import pandas as pd

    if pd.isna(row["file"]):
        return ""
    text = str(row["file"]).rpartition("/")[2]
    if pd.notna(row["start_s"]) or pd.notna(row["end_s"]):
        start = 0.0 if pd.isna(row["start_s"]) else row["start_s"]
        text += f", {start:.9g} s to " + ("the end" if pd.isna(row["end_s"]) else f"{row['end_s']:.9g} s")
    return text if pd.isna(row["channel"]) else f"{text}, channel {row['channel']}"


def number(value: float) -> str:
    """A probability or a margin to read; "" for NaN."""
    return "" if value != value else f"{value:.3f}"
