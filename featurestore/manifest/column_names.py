"""What other programs call the columns of a manifest, to tell a slip from a label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

# As written by crowsetta, BirdNET-Analyzer, opensoundscape, DAS, vak, Raven, Kaleidoscope, audformat and by
# hand; compared without case, blanks and signs.
_USUAL = {
    "utterance_id": "utteranceid uttid",
    "path": (
        "path filepath file filename audiofile audiofilename audiopath audiofilepath audio wav wavfile "
        "wavpath wavfilename notatedpath beginpath beginfile soundpath soundfile recordingpath "
        "relativepath fullpath infile"
    ),
    "start_s": (
        "starts start startseconds startsec startsecs starttime starttimes starttimesec starttimeseconds "
        "begin begins begintime begintimes beginsec beginseconds onset onsets onsetsec onsetseconds "
        "onsettime tmin xmin startoffset"
    ),
    "end_s": (
        "ends end endseconds endsec endsecs endtime endtimes endtimesec endtimeseconds stop stops "
        "stopseconds stopsec stoptime stoptimes offset offsets offsetsec offsetseconds offsettime tmax "
        "xmax endoffset finish"
    ),
    "channel": "channel chan",
    "split": "split splits",
    "group": "group groups",
}
_MEANT = {usual: name for name, words in _USUAL.items() for usual in words.split()}
# Spelt so nearly that it is a slip: "chanel", "star_s", "utterence_id".
_NEARNESS = 0.85
# Times in other units: read as seconds they would be wrong, as labels the whole file would be embedded.
_OTHER_UNIT = re.compile(r"(ms|msecs?|millis|milliseconds?|samples?|frames?|minutes?)$")
_DURATION = re.compile(r"(dur|durations?|length(?=s|in))(in)?(s|secs?|seconds?|ms|milliseconds?|samples?)?")
_LABELS = {"channels"}  # how many there are, in tables of audio files
# What annotations keep of themselves besides labels: their number in their own table, and their box, in
# hertz. Labels by the contract, like all columns that it does not know, but nothing to be learned.
BOX_COLUMNS = ("low_hz", "high_hz")
ANNOTATION_COLUMNS = ("selection", *BOX_COLUMNS)
# What recorders write about a whole file: labels by the contract too, which can be asked for by name, but
# where and when something was recorded is no class.
RECORDER_COLUMNS = (
    *("recorder", "recorder_serial", "recorded_at", "latitude", "longitude"),
    "time_expansion",
)


def meant(name: str) -> str:
    """The column of the manifest that `name` seems to stand for, or "".

    >>> meant(" Start (s)"), meant("audiofilename"), meant("species")
    ('start_s', 'path', '')
    """
    plain = bare(name)
    if plain in _MEANT:
        return _MEANT[plain]
    if plain in _LABELS or _in_other_unit(plain):
        return ""
    if any(c.isdigit() for c in plain):  # group2 and split_3 are columns of their own
        return ""
    close = get_close_matches(name.strip().casefold(), _USUAL, n=1, cutoff=_NEARNESS)
    return close[0] if close else ""


def near_misses(columns: Sequence[str], given: Iterable[str] = ()) -> dict[str, str]:
    """Columns of the manifest that are neither in `columns` nor `given`, and what seems to stand for each."""
    there = {*columns, *given}
    found: dict[str, str] = {}
    for column in columns:
        name = meant(column)
        if name and name not in there and name not in found:
            found[name] = column
    return found


def not_in_seconds(columns: Sequence[str], given: Iterable[str] = ()) -> str:
    """Why the times of these columns would be lost, and how to mend it, in one clause; "" where they are not.

    >>> not_in_seconds(["path", "start_ms"])
    "'start_ms' seems to be start_s in another unit; write seconds into a column 'start_s'"
    >>> not_in_seconds(["path", "start_s", "end_s", "duration"])
    ''
    """
    there = {*columns, *given}
    for column in columns:
        ours = _in_other_unit(bare(column))
        if ours and ours not in there:
            return f"{column!r} seems to be {ours} in another unit; write seconds into a column {ours!r}"
    if "start_s" in there and "end_s" not in there:
        for column in columns:
            if _DURATION.fullmatch(bare(column)):
                return (
                    f"start_s with {column!r} and no end_s, so each clip would go on to the end of its file; "
                    "add a column 'end_s', start_s plus the duration"
                )
    return ""


def bare(name: str) -> str:
    """A name without case, blanks and signs."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _in_other_unit(plain: str) -> str:
    """``start_s`` or ``end_s``, of a name that says that it counts anything but seconds; else ""."""
    stem = _OTHER_UNIT.sub("", plain)
    ours = (_MEANT.get(stem) or _MEANT.get(stem.removesuffix("in"), "")) if stem != plain else ""
    return ours if ours in ("start_s", "end_s") else ""
