"""What recorders write about themselves into WAV files: GUANO text and the WAMD fields of Wildlife Acoustics.

GUANO 1.0: https://github.com/riggsd/guano-spec. WAMD is not published by its maker; its fields are those that
readers of it agree on. Both are chunks of a RIFF file, before or after its audio, of which nothing is read.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from featurestore.archives.interface import ArchiveError
from featurestore.archives.names import split_member
from featurestore.archives.object_file import is_object
from featurestore.archives.opened import open_bytes
from featurestore.audio.file_bytes import size_of

_GUANO, _WAMD = b"guan", b"wamd"
# Longer than any notes; WAMD may hold whole programs and spoken notes.
_MOST_BYTES = 1 << 20
# A file has some ten chunks; zeros in the place of them would be some millions.
_MOST_CHUNKS = 256
# Of a field that cannot be read.
_SHOWN = 80
_OPEN_SIZE = 0xFFFFFFFF
# Fields of WAMD by their number: the text ones, and the factor of time expansion, 16 bits.
_WAMD_TEXTS = {0x01: "Model", 0x02: "Serial", 0x05: "Timestamp", 0x06: "Loc Position"}
_WAMD_EXPANSION = 0x0F
_WAMD_MAKE = "Wildlife Acoustics"
# Nobody writes longer ones; what is longer is no number here.
_NUMBER = r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,30})?"
# Two patterns that follow each other never take the same characters: each text is read in one go.
_PLACE = re.compile(rf"\(?\s*({_NUMBER})(?:\s+|\s*,\s*)({_NUMBER})\b")
# WGS84, 42.4, N, 71.2, W, 30 of recorders; WGS84, 42.4, -71.2, 30 of telephones.
_WAMD_PLACE = re.compile(rf"[^,]*,\s*({_NUMBER})\s*(?:,\s*([NS])\s*)?,\s*({_NUMBER})\s*(?:,\s*([EW])\b)?")


@dataclass(frozen=True, kw_only=True)
class RecorderHeader:
    """What a file says of its recording; "" where it says nothing.

    Attributes:
        recorder, serial: make and model, and the number of that one device.
        recorded_at: date and time of its beginning, as written.
        latitude, longitude: WGS84 in degrees, north and east positive.
        time_expansion: how many times slower it plays than it sounded, as written; 1 for most.
        sample_rate_hz: what it was recorded at, as written.
        unread: a field that is there and is not what it should be.
    """

    recorder: str = ""
    serial: str = ""
    recorded_at: str = ""
    latitude: str = ""
    longitude: str = ""
    time_expansion: str = ""
    sample_rate_hz: str = ""
    unread: str = ""

    @property
    def expansion(self) -> float:
        """`time_expansion` as a factor; 1 where nothing is said, NaN where it is no factor."""
        if not self.time_expansion:
            return 1.0
        factor = float(self.time_expansion) if re.fullmatch(_NUMBER, self.time_expansion) else float("nan")
        return factor if factor > 0 else float("nan")


def read_recorder_header(path: str | os.PathLike[str]) -> RecorderHeader | None:
    """The notes of a recorder in a WAV file, or in one that is a member of an archive.

    None where there are none, or it is no such file.
    """
    found: dict[bytes, bytes] = {}
    try:
        with _opened(os.fspath(path)) as file:
            for name, size in _chunks(file):
                if name in (_GUANO, _WAMD) and name not in found:
                    found[name] = file.read(min(size, _MOST_BYTES))
    except (OSError, ArchiveError):
        return None
    if not found:
        return None
    # GUANO last: it says the same more exactly where both are there.
    return _header(_wamd_fields(found.get(_WAMD, b"")) | _guano_fields(found.get(_GUANO, b"")))


def _opened(path: str) -> BinaryIO:
    if split_member(path) is not None or is_object(path):
        return open_bytes(path)
    if not os.path.isfile(path):  # a pipe would wait for its writer
        raise FileNotFoundError(path)
    return open(path, "rb")  # without a large buffer: little is read


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk, with the file at its first byte."""
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return
    end = size_of(file)
    at, data_bytes = 12, 0
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        start = file.read(8)
        if len(start) < 8:
            return
        name, size = start[:4], struct.unpack("<I", start[4:])[0]
        if name == b"ds64":
            data_bytes = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data" and size == _OPEN_SIZE:
            size = data_bytes
            if not size:  # what recorders leave that lost their power: nothing follows
                return
        file.seek(at + 8)
        yield name, size
        at += 8 + size + size % 2
        if at >= end:
            return


def _guano_fields(data: bytes) -> dict[str, str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:  # early writers
        text = data.decode("latin-1")
    lines = (line.partition(":") for line in text.replace("\0", " ").split("\n"))
    return {key.strip(): value.strip() for key, colon, value in lines if colon and value.strip()}


def _wamd_fields(data: bytes) -> dict[str, str]:
    """Fields under the names that GUANO has for them."""
    fields: dict[str, str] = {}
    at = 0
    while at + 6 <= len(data):
        number, size = struct.unpack_from("<HI", data, at)
        value = data[at + 6 : at + 6 + size]
        at += 6 + size
        if number in _WAMD_TEXTS and (text := value.decode("latin-1").strip("\0 \t\r\n")):
            fields[_WAMD_TEXTS[number]] = text
        elif number == _WAMD_EXPANSION and len(value) == 2:
            fields["TE"] = str(struct.unpack("<H", value)[0])
    if fields:
        fields["Make"] = _WAMD_MAKE
    if "Loc Position" in fields and (place := _WAMD_PLACE.match(fields["Loc Position"])):
        latitude, south, longitude, west = place.groups()
        signed = [
            f"-{number.lstrip('+-')}" if is_negative else number
            for number, is_negative in ((latitude, south == "S"), (longitude, west == "W"))
        ]
        fields["Loc Position"] = " ".join(signed)
    return fields


def _header(fields: Mapping[str, str]) -> RecorderHeader:
    make, model = fields.get("Make", ""), fields.get("Model", "")
    place = _PLACE.match(written := fields.get("Loc Position", ""))
    latitude, longitude = place.groups() if place else ("", "")
    is_place = place is not None and abs(float(latitude)) <= 90 and abs(float(longitude)) <= 180
    return RecorderHeader(
        recorder=model if model.startswith(make) else f"{make} {model}".strip(),
        serial=fields.get("Serial", ""),
        recorded_at=fields.get("Timestamp", ""),
        latitude=latitude if is_place else "",
        longitude=longitude if is_place else "",
        time_expansion=fields.get("TE", ""),
        sample_rate_hz=fields.get("Samplerate", ""),
        unread=f"Loc Position: {written[:_SHOWN]}" if written and not is_place else "",
    )
