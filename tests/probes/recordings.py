"""A corpus as people have it: long recordings of a few birds, with calls cut out of them by times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from featurestore.corpora.synthetic import CLIPS_PER_RECORDING, N_CALLERS, SAMPLE_RATE_HZ, make_clip

N_BIRDS = 4


def write_recordings(folder: Path, n_recordings: int = 4, first: int = 0) -> pd.DataFrame:
    """Write recordings `first` … of every bird and return the manifest's rows: five calls of a bird in each.

    Columns path, start_s, end_s, utterance_id, call, bird, and group, which is the bird.
    """
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for bird in range(N_BIRDS):
        for recording in range(first, first + n_recordings):
            at, parts = 0, []
            for k in range(CLIPS_PER_RECORDING):
                clip = make_clip(bird + N_CALLERS * (recording * CLIPS_PER_RECORDING + k))
                parts.append(clip.call + clip.noise)
                rows.append(
                    {
                        "utterance_id": clip.utterance_id,
                        "path": f"audio/{clip.recording}.wav",
                        "start_s": at / SAMPLE_RATE_HZ,
                        "end_s": (at + len(parts[-1])) / SAMPLE_RATE_HZ,
                        "call": clip.call_type,
                        "bird": f"bird-{bird}",
                        "group": f"bird-{bird}",
                    }
                )
                at += len(parts[-1])
            sound = np.concatenate(parts)
            soundfile.write(folder / "audio" / f"{clip.recording}.wav", sound, SAMPLE_RATE_HZ, "PCM_16")
    return pd.DataFrame(rows)
