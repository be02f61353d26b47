"""A folder of broken and odd files through a real extraction: every row ends well, or says why not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import torch
from transformers import AutoModel, Wav2Vec2FeatureExtractor

from extractors import ExtractConfig, extract
from extractors.audio.decoders import Decode
from featurestore import open_store
from featurestore.audio.blocks import SoundError, read_header
from featurestore.manifest.table import write_manifest
from tests.conftest import write_clips
from tests.extractors.odd_files import RATE, SAMPLES, SPARSE_S, Case, make_folder, riff
from tests.models import save_ssl

LAYER = 2


def prepared(samples: np.ndarray, rate: int) -> np.ndarray:
    """What the model must see, by way of the libraries alone."""
    x = soxr.resample(samples, rate, RATE, quality="HQ") if rate != RATE else samples
    if len(x) < 5000:
        x = np.tile(x, -(-5000 // len(x)))[:5000]
    return Wav2Vec2FeatureExtractor(do_normalize=True)(x, sampling_rate=RATE).input_values[0]


@pytest.mark.timeout(120)  # a pipe without a writer would wait for ever
@pytest.mark.parametrize("decode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_every_file_is_embedded_rightly_or_fails_with_a_reason(tmp_path: Path, decode: Decode) -> None:
    model = save_ssl(tmp_path / "tiny", "hubert", "base", do_normalize=True)
    folder = tmp_path / "audio"
    good = pd.read_csv(write_clips(folder, [9000, 5000, 20_000, 12_345]))[["path"]]
    good["utterance_id"] = [f"good{i}" for i in range(len(good))]
    cases = make_folder(folder)
    assert len({c.name for c in cases}) >= 40

    def run(table: pd.DataFrame, name: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
        write_manifest(table.fillna(""), folder / f"{name}.csv")
        extract(
            ExtractConfig(
                manifest=folder / f"{name}.csv",
                dataset="d",
                model=str(model),
                store=str(tmp_path / name),
                layers=str(LAYER),
                unit_rows=16,
                decode=decode,
            )
        )
        features = open_store(tmp_path / name).features("tiny", "d")
        ids = features.index["utterance_id"]
        values = features.layer(LAYER).numpy()
        return dict(zip(ids, features.index["status"], strict=True)), dict(zip(ids, values, strict=True))

    rows = [
        {
            "utterance_id": str(i),
            "path": c.name,
            "channel": c.channel,
            "start_s": c.start_s,
            "end_s": c.end_s,
        }
        for i, c in enumerate(cases)
    ]
    status, values = run(pd.concat([good, pd.DataFrame(rows)]).sample(frac=1, random_state=0), "all")
    reference = AutoModel.from_pretrained(model).eval()
    problems = []
    for i, case in enumerate(cases):
        problem = verdict(case, status[str(i)], values[str(i)], reference)
        if problem:
            problems.append(f"{case.name!r}: {problem}")
    assert not problems, "\n".join(problems)

    alone_status, alone = run(good, "good")
    for utterance, expected in alone.items():
        assert alone_status[utterance] == status[utterance] == "ok"
        np.testing.assert_allclose(values[utterance], expected, atol=1e-5 * np.abs(expected).max())


def verdict(case: Case, status: str, values: np.ndarray, reference: torch.nn.Module) -> str:
    """What is wrong with a row, or ""."""
    if isinstance(case.expected, str):
        reason = case.expected.replace("(", "[(]").replace(")", "[)]")
        if "\n" in status or not re.match(f"failed: .*({reason})", status):
            return f"expected a failure with {case.expected!r}, got {status!r}"
        return "" if np.isnan(values).all() else "failed, but holds values"
    if status != "ok":
        return f"expected to be embedded, got {status!r}"
    with torch.no_grad():
        x = torch.from_numpy(prepared(case.expected.astype(np.float32), case.rate))[None]
        frames = reference(x, output_hidden_states=True).hidden_states[LAYER][0].numpy()
    expected = np.stack([frames.mean(0), frames.std(0, ddof=1)])
    far = np.abs(values - expected).max() / np.abs(expected).max()
    return "" if far < 1e-5 else f"values are {far:.1e} from those of the samples alone"


def test_a_file_without_permission_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        path = Path(name) / "locked.wav"
        path.write_bytes(riff(SAMPLES.tobytes()))
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            read_header_works = read_header(str(path)).n_frames  # root may, and imports what it needs here
            assert read_header_works == 9000
            os.seteuid(65_534)
        try:
            with pytest.raises(SoundError, match="may not be read"):
                read_header(str(path))
        finally:
            os.seteuid(user)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from extractors import ExtractConfig, extract
from extractors.audio.decoders import Decode
config = dict(dataset="d", model="logmel", workers=1)
extract(ExtractConfig(manifest=Path(sys.argv[1]), store=sys.argv[3], **config))
held = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (held + 700 * 2**20,) * 2)
config["functionals"] = ("mean", "median")
summary = extract(ExtractConfig(manifest=Path(sys.argv[2]), store=sys.argv[4], **config))
assert summary.failed == {}, summary.failed
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_three_hours_are_embedded_within_a_bound_of_memory(tmp_path: Path) -> None:
    write_clips(tmp_path, [9000])
    rate = 22_050  # 950 MB of samples before resampling, 690 MB after
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, 1, subtype="PCM_16") as file:
        minute = (3000 * np.random.default_rng(0).standard_normal(60 * rate)).astype(np.int16)
        for _ in range(SPARSE_S // 60):
            file.write(minute)
    (tmp_path / "long.csv").write_text("path\nlong.wav\n")
    arguments = [tmp_path / "manifest.csv", tmp_path / "long.csv", tmp_path / "warm", tmp_path / "s"]
    subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, arguments)], check=True, cwd=Path(__file__).parents[3]
    )
    features = open_store(tmp_path / "s").features("logmel", "d")
    assert features.index["n_frames"].tolist() == [(SPARSE_S * RATE - 400) // 160 + 1]
    mean, median = features.layer(0).numpy()[0]
    assert np.abs(mean - median).max() < 0.5  # noise all along
