"""Facts about the tasks of BEANS: folders, windows and classes (its `datasets.yml`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A detection task.

    Attributes:
        label: name of the label column.
        window_s, shift_s: width and step of the windows, seconds.
        labels: the classes; other is the class that takes all remaining labels, None if there is none.
    """

    label: str
    window_s: float
    shift_s: float
    labels: tuple[str, ...]
    other: str | None = None


# Folder that BEANS' scripts make -> task.
FOLDERS = {
    "dogs": "dogs",
    "egyptian_fruit_bats": "bats",
    "bats": "bats",
    "cbi": "cbi",
    "HumBugDB": "humbugdb",
    "humbugdb": "humbugdb",
    "watkins": "watkins",
    "esc50": "esc50",
    "dcase": "dcase",
    "enabirds": "enabirds",
    "hiceas": "hiceas",
    "rfcx": "rfcx",
    "hainan_gibbons": "gibbons",
    "gibbons": "gibbons",
}

_DCASE = "AMRE BBWA BTBW CALL CCMK CHSP COYE GCTH GIG GRN OVEN Q RBGR SAVS SNMK SQT SWTH WTSP"
_ENABIRDS = (
    "AMCR AMGO AMRE AMRO BAWW BCCH BGGN BHCO BHVI BLJA BTNW BWWA CARW COYE EATO HETH HOWA "
    "KEWA LOWA NOCA NOFL OVEN RBGR RBWO RCKI REVI SCTA SWTH TUTI WBNU WITU WOTH YBCU OTHR"
)
DETECTION = {
    "dcase": Detection(
        label="species",
        window_s=2,
        shift_s=1,
        labels=tuple(_DCASE.split()),
    ),
    "enabirds": Detection(
        label="species",
        window_s=2,
        shift_s=1,
        labels=tuple(_ENABIRDS.split()),
        other="OTHR",
    ),
    "hiceas": Detection(label="minke_whale", window_s=10, shift_s=5, labels=("1",)),
    "rfcx": Detection(label="species", window_s=10, shift_s=5, labels=tuple(str(i) for i in range(24))),
    "gibbons": Detection(label="calltype", window_s=4, shift_s=2, labels=("1", "2", "3"), other="1"),
}
