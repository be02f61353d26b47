"""What is known of published models: what they heard, what they were tuned for, under which licence.

Facts come from the model cards on the hub, the papers named beside them and the authors' repositories;
what could not be found there is None. `normalisation` is that of the published preprocessor_config.json
(what a complete copy of the model applies), so that a folder without that file gives the same features.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from extractors.models.interface import Domain, FineTuning, Normalisation

# LibriSpeech; Libri-Light; Libri-Light + GigaSpeech + VoxPopuli (WavLM and UniSpeech-SAT).
_LS960, _LL60K, _MIX94K = 960, 60_000, 94_000
_UNISPEECH = "github.com/microsoft/UniSpeech/blob/main/LICENSE"


@dataclass(frozen=True)
class Facts:
    """What is known of a published model; its shape is (blocks, width), the rest see `ModelCard`."""

    model_id: str
    family: str
    shape: tuple[int, int]
    training_hours: int | None
    source: str
    _: KW_ONLY
    domain: Domain = "speech"
    fine_tuning: FineTuning = "none"
    normalisation: Normalisation | None = "zero-mean-unit-variance"
    licence: str | None = "apache-2.0"

    @property
    def n_layers(self) -> int:
        """Hidden states, the input of the first block included."""
        return self.shape[0] + 1

    @property
    def n_features(self) -> int:
        """Width of a hidden state."""
        return self.shape[1]

    def card_fields(self) -> dict[str, Any]:
        """The fields of a `ModelCard` that only the catalogue knows."""
        names = ("model_id", "domain", "fine_tuning", "training_hours", "licence", "source")
        return {name: getattr(self, name) for name in names}


def facts_for(
    name: str, model_id: str | None, family: str, *, n_layers: int, n_features: int
) -> Facts | None:
    """The catalogue's entry of a model, if it is in there.

    A hub id must match in full: another owner's model of the same name is another model. A folder without
    an id matches by its name. The architecture must be the entry's in both cases.
    """
    for facts in CATALOGUE:
        known_by = facts.model_id == model_id if model_id else facts.model_id.rsplit("/", 1)[-1] == name
        if known_by and (facts.family, facts.n_layers, facts.n_features) == (family, n_layers, n_features):
            return facts
    return None


def _whisper(size: str, shape: tuple[int, int], hours: int | None) -> Facts:
    # Trained on transcripts from the start; the encoder is what stays of it here.
    return Facts(
        f"openai/whisper-{size}", "whisper", shape, hours, "arXiv:2212.04356; card on the hub",
        fine_tuning="ASR", normalisation="none",
    )  # fmt: skip


def _conformer(name: str, hours: int | None, fine_tuning: FineTuning = "none") -> Facts:
    return Facts(
        f"facebook/wav2vec2-conformer-{name}", "wav2vec2-conformer", _LARGE, hours,
        "arXiv:2010.05171; card on the hub", fine_tuning=fine_tuning, normalisation=None,
    )  # fmt: skip


def _clap(
    model_id: str, source: str = "", domain: Domain = "audio", licence: str | None = "apache-2.0"
) -> Facts:
    # Of the embedding; how many hours of which of its data sets a checkpoint heard is not on its card.
    return Facts(
        model_id, "clap", (0, 512), None, f"arXiv:2211.06687; {source or 'card on the hub'}",
        domain=domain, normalisation="none", licence=licence,
    )  # fmt: skip


def _birdset(name: str, family: str, shape: tuple[int, int], **known: Any) -> Facts:
    # One event of 5 s of up to 500 recordings of each species; their hours are not said.
    return Facts(
        f"DBD-research-group/{name}", family, shape, None,
        "arXiv:2403.10380; github.com/DBD-research-group/BirdSet",
        fine_tuning="classification", licence=None,
        **{"domain": "animal", "normalisation": "none", **known},
    )  # fmt: skip


def _aves(name: str, shape: tuple[int, int], hours: int, domain: Domain) -> Facts:
    return Facts(
        name, "hubert", shape, hours, "arXiv:2210.14493; github.com/earthspecies/aves",
        domain=domain, normalisation="none",
        licence="MIT",  # of the repository that publishes them
    )  # fmt: skip


_BASE, _LARGE, _1B = (12, 768), (24, 1024), (48, 1280)
_W2V2, _HUBERT, _WAVLM = "arXiv:2006.11477", "arXiv:2106.07447", "arXiv:2110.13900"
_D2V, _SAT, _XLSR, _MMS = "arXiv:2202.03555", "arXiv:2110.05752", "arXiv:2111.09296", "arXiv:2305.13516"

# Trained on labelled recordings from the start; the hours of all 6,522 classes are not said.
BIRDNET = Facts(
    "birdnet-2.4", "birdnet", (0, 1024), None,
    "doi:10.1016/j.ecoinf.2021.101236; github.com/birdnet-team/BirdNET-Analyzer",
    domain="animal", fine_tuning="classification", normalisation="none", licence="cc-by-nc-sa-4.0",
)  # fmt: skip

CATALOGUE: tuple[Facts, ...] = (
    # The seven of Sarkar & Magimai-Doss (ICASSP 2025); AVES-bio is below.
    Facts("facebook/hubert-base-ls960", "hubert", _BASE, _LS960, _HUBERT),
    Facts("facebook/wav2vec2-base", "wav2vec2", _BASE, _LS960, _W2V2),
    Facts("facebook/wav2vec2-base-100h", "wav2vec2", _BASE, _LS960, _W2V2, fine_tuning="ASR"),
    Facts("facebook/wav2vec2-base-960h", "wav2vec2", _BASE, _LS960, _W2V2, fine_tuning="ASR"),
    # WavLM base saw raw waveforms, large normalised ones (its author in microsoft/unilm#708).
    Facts("microsoft/wavlm-base", "wavlm", _BASE, _LS960, _WAVLM, normalisation="none", licence=_UNISPEECH),
    Facts(
        "patrickvonplaten/wavlm-libri-clean-100h-base", "wavlm", _BASE, _LS960, _WAVLM,
        fine_tuning="ASR", normalisation=None, licence=None,
    ),
    # HuBERT
    Facts("facebook/hubert-large-ll60k", "hubert", _LARGE, _LL60K, _HUBERT),
    Facts("facebook/hubert-large-ls960-ft", "hubert", _LARGE, _LL60K, _HUBERT, fine_tuning="ASR"),
    Facts("facebook/hubert-xlarge-ll60k", "hubert", _1B, _LL60K, _HUBERT),
    Facts("facebook/hubert-xlarge-ls960-ft", "hubert", _1B, _LL60K, _HUBERT, fine_tuning="ASR"),
    # wav2vec 2.0
    Facts("facebook/wav2vec2-large", "wav2vec2", _LARGE, _LS960, _W2V2),
    Facts("facebook/wav2vec2-large-960h", "wav2vec2", _LARGE, _LS960, _W2V2, fine_tuning="ASR"),
    Facts("facebook/wav2vec2-large-lv60", "wav2vec2", _LARGE, _LL60K, _W2V2),
    Facts("facebook/wav2vec2-large-960h-lv60", "wav2vec2", _LARGE, _LL60K, _W2V2, fine_tuning="ASR"),
    Facts("facebook/wav2vec2-large-960h-lv60-self", "wav2vec2", _LARGE, _LL60K, _W2V2, fine_tuning="ASR"),
    Facts("facebook/wav2vec2-large-robust", "wav2vec2", _LARGE, None, "arXiv:2104.01027"),
    # XLSR-53, XLS-R, MMS
    Facts("facebook/wav2vec2-large-xlsr-53", "wav2vec2", _LARGE, 56_000, "arXiv:2006.13979"),
    Facts("facebook/wav2vec2-xls-r-300m", "wav2vec2", _LARGE, 436_000, _XLSR),
    Facts("facebook/wav2vec2-xls-r-1b", "wav2vec2", _1B, 436_000, _XLSR),
    Facts("facebook/wav2vec2-xls-r-2b", "wav2vec2", (48, 1920), 436_000, _XLSR),
    Facts("facebook/mms-300m", "wav2vec2", _LARGE, 500_000, _MMS, licence="cc-by-nc-4.0"),
    Facts("facebook/mms-1b", "wav2vec2", _1B, 500_000, _MMS, licence="cc-by-nc-4.0"),
    Facts("facebook/mms-1b-fl102", "wav2vec2", _1B, 500_000, _MMS, fine_tuning="ASR", licence="cc-by-nc-4.0"),
    Facts("facebook/mms-1b-l1107", "wav2vec2", _1B, 500_000, _MMS, fine_tuning="ASR", licence="cc-by-nc-4.0"),
    Facts("facebook/mms-1b-all", "wav2vec2", _1B, 500_000, _MMS, fine_tuning="ASR", licence="cc-by-nc-4.0"),
    # WavLM
    Facts(
        "microsoft/wavlm-base-plus", "wavlm", _BASE, _MIX94K, _WAVLM, normalisation="none", licence=_UNISPEECH
    ),
    Facts("microsoft/wavlm-large", "wavlm", _LARGE, _MIX94K, _WAVLM, licence=_UNISPEECH),
    # data2vec: large is pre-trained on Libri-Light (table 2 of the paper), whatever its tag on the hub says.
    Facts("facebook/data2vec-audio-base", "data2vec-audio", _BASE, _LS960, _D2V),
    Facts("facebook/data2vec-audio-base-960h", "data2vec-audio", _BASE, _LS960, _D2V, fine_tuning="ASR"),
    Facts("facebook/data2vec-audio-large", "data2vec-audio", _LARGE, _LL60K, _D2V),
    Facts("facebook/data2vec-audio-large-960h", "data2vec-audio", _LARGE, _LL60K, _D2V, fine_tuning="ASR"),
    # UniSpeech-SAT
    Facts(
        "microsoft/unispeech-sat-base", "unispeech-sat", _BASE, _LS960, _SAT,
        normalisation=None, licence=_UNISPEECH,
    ),
    Facts(
        "microsoft/unispeech-sat-base-plus", "unispeech-sat", _BASE, _MIX94K, _SAT,
        normalisation=None, licence=_UNISPEECH,
    ),
    Facts("microsoft/unispeech-sat-large", "unispeech-sat", _LARGE, _MIX94K, _SAT, licence=_UNISPEECH),
    # Conformers. Cards of the models tuned on 960 h do not say on what those were pre-trained; none of the
    # preprocessor_config.json was at hand.
    _conformer("rel-pos-large", _LS960),
    _conformer("rel-pos-large-100h-ft", _LS960, "ASR"),
    _conformer("rel-pos-large-960h-ft", None, "ASR"),
    _conformer("rope-large", None),
    _conformer("rope-large-960h-ft", None, "ASR"),
    # w2v-BERT 2.0
    Facts(
        "facebook/w2v-bert-2.0", "wav2vec2-bert", _LARGE, 4_500_000, "arXiv:2312.05187",
        normalisation="none", licence="mit",
    ),
    # Whisper
    _whisper("tiny", (4, 384), 680_000),
    _whisper("base", (6, 512), 680_000),
    _whisper("small", (12, 768), 680_000),
    _whisper("medium", (24, 1024), 680_000),
    _whisper("large", (32, 1280), 680_000),
    _whisper("large-v2", (32, 1280), 680_000),
    _whisper("large-v3", (32, 1280), 5_000_000),
    # The English models; how much of the English part of the data they saw is not said.
    _whisper("tiny.en", (4, 384), None),
    _whisper("base.en", (6, 512), None),
    _whisper("small.en", (12, 768), None),
    _whisper("medium.en", (24, 1024), None),
    # AST: ImageNet weights, then AudioSet's labels.
    Facts(
        "MIT/ast-finetuned-audioset-10-10-0.4593", "audio-spectrogram-transformer", _BASE, None,
        "arXiv:2104.01778", domain="audio", fine_tuning="classification", normalisation="none",
        licence="bsd-3-clause",
    ),
    # AVES and BirdAVES, trained on raw waveforms. "core" and "all" hold other sounds beside animals'.
    _aves("aves-base-core", _BASE, 153, "audio"),
    _aves("aves-base-bio", _BASE, 360, "animal"),
    _aves("aves-base-nonbio", _BASE, 360, "audio"),
    _aves("aves-base-all", _BASE, 5_054, "audio"),
    _aves("birdaves-biox-base", _BASE, 2_570, "animal"),
    _aves("birdaves-biox-large", _LARGE, 2_570, "animal"),
    _aves("birdaves-bioxn-large", _LARGE, 3_076, "animal"),
    BIRDNET,
    # BirdSet: trained on birds from the start, but for wav2vec 2.0, which had heard LibriSpeech.
    _birdset("ConvNeXT-Base-BirdSet-XCL", "convnext", (0, 1024)),
    _birdset("ConvNeXT-Base-BirdSet-XCM", "convnext", (0, 1024)),
    _birdset("EfficientNet-B1-BirdSet-XCL", "efficientnet", (0, 1280)),
    _birdset("EfficientNet-B1-BirdSet-XCM", "efficientnet", (0, 1280)),
    _birdset(
        "Wav2Vec2-Base-BirdSet-XCL", "wav2vec2", _BASE, domain="speech",
        normalisation="zero-mean-unit-variance",
    ),
    _birdset(
        "Wav2Vec2-Base-BirdSet-XCM", "wav2vec2", _BASE, domain="speech",
        normalisation="zero-mean-unit-variance",
    ),
    # CLAP: trained to know a sound's caption among others.
    _clap("laion/clap-htsat-unfused"),
    _clap("laion/clap-htsat-fused"),
    _clap("laion/larger_clap_general"),
    _clap("laion/larger_clap_music"),
    _clap("laion/larger_clap_music_and_speech"),
    _clap("davidrrobinson/BioLingual", "arXiv:2308.04978", "animal", None),
)  # fmt: skip
