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
_LABELS = {"channels"}  # how many there are, in tables of audio files


def meant(name: str) -> str:
    """The column of the manifest that `name` seems to stand for, or "".

    >>> meant(" Start (s)"), meant("audiofilename"), meant("species")
    ('start_s', 'path', '')
    """
    bare = re.sub(r"[\W_]+", "", name.casefold())
    if bare in _MEANT:
        return _MEANT[bare]
    if bare in _LABELS or any(c.isdigit() for c in bare):  # group2 and split_3 are columns of their own
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
