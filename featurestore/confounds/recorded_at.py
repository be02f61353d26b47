"""When a file was recorded, as far as its name tells."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from featurestore.archives.names import sound_name

_DATE = r"(?<![0-9])((?:19|20)[0-9]{2})%s([01][0-9])%s([0-3][0-9])"
_CLOCK = r"([0-2][0-9])%s([0-5][0-9])%s([0-5][0-9])(?![0-9])"
_FORMS = (
    # 20240131_235900, 20240131-235900, 20240131T235900, 20240131235900
    re.compile((_DATE % ("", "")) + r"[_\-T ]?" + (_CLOCK % ("", ""))),
    # 2024-01-31T23-59-00, 2024-01-31_23:59:00, 2024_01_31_23_59_00, 2024-01-31 235900
    re.compile((_DATE % ("[-_.]", "[-_.]")) + r"[_\-T ]" + (_CLOCK % ("[-_:.]?", "[-_:.]?"))),
)
_DATE_ALONE = (
    re.compile((_DATE % ("", "")) + r"(?![0-9])"),
    re.compile((_DATE % ("[-_.]", "[-_.]")) + r"(?![0-9])"),
)
_AUDIOMOTH = re.compile(r"[0-9A-F]{8}")
# The first AudioMoths were made in 2017; eight hexadecimal digits of other times are some other name.
_AUDIOMOTH_YEARS = range(2017, 2041)


@dataclass(frozen=True, kw_only=True)
class RecordedAt:
    """When a clip was recorded.

    Attributes:
        day: The date; None where the name has none.
        hour: Time of day in hours, 0 up to 24; NaN where the name has none.
    """

    day: date | None = None
    hour: float = float("nan")


def recorded_at(path: str, start_s: float = 0.0) -> RecordedAt:
    """Read date and time off a file's name, and add where in the file the clip begins.

    Known are ``20240131_235900`` (also with ``-``, ``T`` or nothing between) and ``2024-01-31T23-59-00``
    anywhere in the name, as the clock of the recorder had it; a name of eight upper-case hexadecimal digits,
    which early AudioMoths gave: seconds since 1970, **UTC**; and a date alone, without an hour. A number
    that happens to be a date is taken for one.

    Args:
        path: Of the audio file, or of the member of an archive; folders and archive do not count.
        start_s: Seconds from the file's beginning to the clip's.
    """
    stem = os.path.splitext(sound_name(path))[0]
    begun = _moment(stem)
    if begun is not None:
        at = begun + timedelta(seconds=start_s)
        clock = at - datetime(at.year, at.month, at.day)
        return RecordedAt(day=at.date(), hour=clock.total_seconds() / 3600)
    for form in _DATE_ALONE:
        for found in form.finditer(stem):
            try:
                return RecordedAt(day=date(*map(int, found.groups())))
            except ValueError:  # 31 February
                continue
    return RecordedAt()


def _moment(stem: str) -> datetime | None:
    for form in _FORMS:
        for found in form.finditer(stem):
            try:
                year, month, day, hour, minute, second = map(int, found.groups())
                return datetime(year, month, day, hour, minute, second)
            except ValueError:
                continue
    if _AUDIOMOTH.fullmatch(stem) and not any(f.fullmatch(stem) for f in _DATE_ALONE):
        at = datetime.fromtimestamp(int(stem, 16), UTC).replace(tzinfo=None)
        return at if at.year in _AUDIOMOTH_YEARS else None
    return None
