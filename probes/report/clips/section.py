"""The sounds of a report: read, given room by turns, and as the template shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from featurestore.audio.segment import AudioError
from featurestore.errors import ConfigError
from featurestore.manifest.audio_places import Places
from featurestore.printable import counted
from probes.report.clips.choice import HARD, PAIR, SUSPECT, Wanted, wanted
from probes.report.clips.clip import PLAYED_S, Clip, make_clip
from probes.report.progress import Progress

if TYPE_CHECKING:
    from probes.report.clips.embedded_keys import EmbeddedAudio
    from probes.report.clips.mistakes import QuestionMistakes

DEFAULT_MB, MOST_MB = 4.0, 500.0
# So many clips in a row that have no room are the end: smaller ones may come behind a large one.
_TOO_LARGE = 5


@dataclass
class _Heard:
    """Clips of one question so far, and why others are not among them."""

    found: QuestionMistakes
    left: list[Wanted]
    clips: list[tuple[Wanted, Clip]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    n_no_room: int = 0


def check_budget(megabytes: float) -> None:
    """Refuse what cannot be room for sounds.

    Raises:
        ConfigError: it is negative, no number, or more than a browser opens.
    """
    if not (math.isfinite(megabytes) and 0 <= megabytes <= MOST_MB):
        raise ConfigError(f"--sounds-mb: expected 0 to {MOST_MB:g} megabytes, got {megabytes:g}")


def sound_sections(
    found: Sequence[QuestionMistakes], megabytes: float, progress: Progress
) -> list[dict[str, Any]]:
    """Clips of each label, data set and split, of the classifier that validation prefers.

    Args:
        found: All questions.
        megabytes: Of 1,000,000 bytes, as they stand in the page. Questions take turns: none gets its second
            clip before all had room for their first.
        progress: Told of each clip.
    """
    heard = [_Heard(f, wanted(f.utterances, f.suspects.table, sets=f.is_sets)) for f in _one_per_label(found)]
    room, too_large = megabytes * 1e6, 0
    turn = [h for h in heard if h.left and not h.found.audio.reason]
    step = progress.stage("sounds", sum(len(h.left) for h in turn))
    while turn and too_large < _TOO_LARGE and room > 0:
        for h in list(turn):
            clip = _next(h)
            step()
            if clip is None:
                turn.remove(h)
            elif clip[1].n_bytes > room:
                h.n_no_room += 1
                too_large += 1
            else:
                h.clips.append(clip)
                room -= clip[1].n_bytes
                too_large = 0
    return [_section(h, megabytes) for h in heard]


def _one_per_label(found: Sequence[QuestionMistakes]) -> list[QuestionMistakes]:
    """Of classifiers that were asked the same, the one with the highest validation score."""
    best: dict[tuple[str, str, str], QuestionMistakes] = {}
    for f in found:
        q = f.question
        key = (q.dataset, q.label, q.split)
        other = best.get(key)
        if other is None or q.answer["score_val_mean"] > other.question.answer["score_val_mean"]:
            best[key] = f
    return list(best.values())


def _next(heard: _Heard) -> tuple[Wanted, Clip] | None:
    """The next utterance of a question that can be read; None where there is none left."""
    audio = heard.found.audio
    while heard.left:
        one = heard.left.pop(0)
        try:
            clip = clip_at(audio, one.utterance_id)
        except AudioError as error:
            heard.unread.append(str(error))
            continue
        if clip is not None:
            return one, clip
    return None


def clip_at(audio: EmbeddedAudio, utterance_id: str) -> Clip | None:
    """The clip of an utterance; None where its place is not known.

    Raises:
        AudioError: the file, and why it cannot be shown, see `probes.report.clips.clip.make_clip`.
    """
    at = audio.rows.index.get_indexer(pd.Index([utterance_id]))
    if at[0] < 0:
        return None
    row = audio.rows.iloc[at]
    place, audio_hash = Places.of_table(row).location(0), str(row["audio_hash"].iloc[0])
    try:
        return make_clip(place, audio_hash)
    except AudioError as error:
        raise AudioError(f"{place[0]} {error}") from error


def _section(heard: _Heard, megabytes: float) -> dict[str, Any]:
    """What the template shows of one question."""
    found, clips = heard.found, heard.clips
    groups = []
    for pair in dict.fromkeys(w.pair for w, _ in clips if w.kind == PAIR):
        shown = [(w, c) for w, c in clips if w.kind == PAIR and w.pair == pair]
        groups.append({"head": " taken for ".join(pair), "clips": _cards(found, shown)})
    for kind, head in ((SUSPECT, "Likely mislabelled"), (HARD, "Hardest")):
        if shown := [(w, c) for w, c in clips if w.kind == kind]:
            groups.append({"head": head, "clips": _cards(found, shown)})
    return {
        "title": found.question.title,
        "groups": groups,
        "sentences": list(_sentences(heard, megabytes)),
    }


def _sentences(heard: _Heard, megabytes: float) -> Sequence[str]:
    """What is to be said of clips that are not there."""
    reason = heard.found.audio.reason
    if megabytes == 0:
        return ["No sounds were asked for (--sounds-mb 0)."]
    if reason:
        return [f"No sounds: {reason}."]
    if not len(heard.found.answers):
        return ["No sounds: no predictions were saved for this probe."]
    said = []
    if heard.unread:
        n = len(heard.unread)
        said.append(f"{counted(n, 'clip')} could not be shown; the first: {heard.unread[0]}.")
    n_left = heard.n_no_room + len(heard.left)
    if n_left:
        said.append(f"{counted(n_left, 'clip')} more had no room in {megabytes:g} MB (--sounds-mb).")
    if not heard.clips and not said:
        said.append("No test clip was taken for another class.")
    return said


def _cards(found: QuestionMistakes, shown: Sequence[tuple[Wanted, Clip]]) -> list[dict[str, Any]]:
    from probes.report.clips.mistakes import number

    utterances, suspects = _by_id(found.utterances), _by_id(found.suspects.table)
    cards = []
    for one, clip in shown:
        row = utterances[one.utterance_id]
        answers = counted(int(row["n_answers"]), "answer")
        facts = [
            f"{'wrong' if row['n_wrong'] else 'right'} in {row['n_wrong'] or row['n_answers']} of {answers}"
        ]
        if p := number(float(row["p_target"])):
            facts.append(f"probability of its label {p}")
        if s := suspects.get(one.utterance_id):
            facts.append(
                f"suspect {s['suspect_rank']}: rather {s['suggested']}, margin {number(s['margin'])}"
            )
        heading = str(row["target"]) if one.is_example else f"{row['target']} taken for {row['mistaken_for']}"
        cards.append(
            {
                "heading": heading,
                "is_example": one.is_example,
                "utterance": one.utterance_id,
                "group": row["group"],
                "facts": facts,
                **looks(clip, found.audio, one.utterance_id),
                "label": f"Play {one.utterance_id}: {heading}",
            }
        )
    return cards


def _by_id(table: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    return {row["utterance_id"]: row for row in table.to_dict("records")}


def looks(clip: Clip, audio: EmbeddedAudio, utterance_id: str) -> dict[str, Any]:
    """The clip of an utterance, and the axes of its picture, as pages show them."""
    model_hz = (audio.model_rate_hz or math.inf) / 2
    cut = "" if clip.shown_s == clip.whole_s else f"the loudest {clip.shown_s:.3g} of {clip.whole_s:.3g} s"
    slowed = (
        f"slowed down {clip.slowed} times to be heard: 40 kHz sounds as {40 / clip.slowed:.2g} kHz"
        if clip.slowed > 1
        else ""
    )
    return {
        "audio": clip.audio,
        "picture": clip.picture,
        "alt": _alternative(utterance_id, clip),
        "top": f"{clip.top_hz / 1000:.3g} kHz",
        "first": _seconds(clip.from_s, clip.shown_s),
        "last": _seconds(clip.from_s + clip.shown_s, clip.shown_s),
        "model_limit": f"{100 * model_hz / clip.top_hz:.2f}" if model_hz < clip.top_hz else "",
        "model_limit_text": f"{model_hz / 1000:.3g} kHz" if model_hz < clip.top_hz else "",
        "notes": [note for note in (slowed, cut) if note],
    }


def _seconds(at_s: float, shown_s: float) -> str:
    """A place on the axis of a picture that is so long."""
    return f"{at_s:.2f} s" if shown_s >= 1 else f"{at_s:.3f} s"


def _alternative(utterance_id: str, clip: Clip) -> str:
    low, high = (f"{f / 1000:.2g}" for f in clip.band_hz)
    return (
        f"Spectrogram of {utterance_id}: {clip.shown_s:.3g} s, 0 to {clip.top_hz / 1000:.3g} kHz; most "
        f"energy between {low} and {high} kHz"
    )


def note(megabytes: float) -> str:
    """How to read the clips."""
    return (
        f"Clips are played at one level; of long ones the loudest {PLAYED_S:g} s. Ultrasound is slowed down. "
        "In the pictures time goes to the right and frequency upwards; dark is loud. Above a dashed line the "
        f"model hears nothing. All clips together take at most {megabytes:g} MB."
    )
