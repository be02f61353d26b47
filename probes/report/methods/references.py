"""References of what a run used, as BibTeX; long lists of authors are cut where BibTeX says "others"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One entry.

    Attributes:
        short: As it is named in a text.
        kind: BibTeX's, such as ``article``.
        fields: BibTeX's, in the order in which they are written.
    """

    short: str
    kind: str
    fields: tuple[tuple[str, str], ...]

    def bibtex(self, key: str) -> str:
        """The entry under a key."""
        lines = [f"  {name} = {{{value}}}" for name, value in self.fields]
        return f"@{self.kind}{{{key},\n" + ",\n".join(lines) + "\n}\n"


def _article(short: str, author: str, title: str, journal: str, year: int, **more: str) -> Reference:
    fields = {"author": author, "title": title, "journal": journal, "year": str(year), **more}
    return Reference(short, "article", tuple(fields.items()))


def _conference(short: str, author: str, title: str, booktitle: str, year: int, **more: str) -> Reference:
    fields = {"author": author, "title": title, "booktitle": booktitle, "year": str(year), **more}
    return Reference(short, "inproceedings", tuple(fields.items()))


def _preprint(short: str, author: str, title: str, year: int, arxiv: str) -> Reference:
    fields = {"author": author, "title": title, "year": str(year), "eprint": arxiv, "archiveprefix": "arXiv"}
    return Reference(short, "misc", tuple(fields.items()))


_NEURIPS = "Advances in Neural Information Processing Systems"
_JMLR = "Journal of Machine Learning Research"

#: By arXiv number or DOI, models of the catalogue.
_MODELS: dict[str, tuple[str, Reference]] = {
    "10.1016/j.ecoinf.2021.101236": (
        "kahl2021birdnet",
        _article(
            "Kahl et al. 2021", "Kahl, Stefan and Wood, Connor M. and Eibl, Maximilian and Klinck, Holger",
            "{BirdNET}: {A} deep learning solution for avian diversity monitoring",
            "Ecological Informatics", 2021, volume="61", pages="101236", doi="10.1016/j.ecoinf.2021.101236",
        ),
    ),
    "2006.11477": (
        "baevski2020wav2vec2",
        _conference(
            "Baevski et al. 2020",
            "Baevski, Alexei and Zhou, Yuhao and Mohamed, Abdelrahman and Auli, Michael",
            "wav2vec 2.0: {A} Framework for Self-Supervised Learning of Speech Representations",
            _NEURIPS, 2020, eprint="2006.11477", archiveprefix="arXiv",
        ),
    ),
    "2010.05171": (
        "wang2020fairseq",
        _preprint(
            "Wang et al. 2020",
            "Wang, Changhan and Tang, Yun and Ma, Xutai and Wu, Anne and Popuri, Sravya and "
            "Okhonko, Dmytro and Pino, Juan",
            "fairseq {S2T}: Fast Speech-to-Text Modeling with fairseq",
            2020, "2010.05171",
        ),
    ),
    "2106.07447": (
        "hsu2021hubert",
        _article(
            "Hsu et al. 2021a",
            "Hsu, Wei-Ning and Bolte, Benjamin and Tsai, Yao-Hung Hubert and Lakhotia, Kushal and "
            "Salakhutdinov, Ruslan and Mohamed, Abdelrahman",
            "{HuBERT}: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units",
            "IEEE/ACM Transactions on Audio, Speech, and Language Processing", 2021,
            volume="29", pages="3451--3460", eprint="2106.07447", archiveprefix="arXiv",
        ),
    ),
    "2110.13900": (
        "chen2022wavlm",
        _article(
            "Chen et al. 2022a", "Chen, Sanyuan and others",
            "{WavLM}: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing",
            "IEEE Journal of Selected Topics in Signal Processing", 2022,
            volume="16", number="6", pages="1505--1518", eprint="2110.13900", archiveprefix="arXiv",
        ),
    ),
    "2202.03555": (
        "baevski2022data2vec",
        _conference(
            "Baevski et al. 2022",
            "Baevski, Alexei and Hsu, Wei-Ning and Xu, Qiantong and Babu, Arun and Gu, Jiatao and "
            "Auli, Michael",
            "data2vec: {A} General Framework for Self-supervised Learning in Speech, Vision and Language",
            "International Conference on Machine Learning", 2022, eprint="2202.03555", archiveprefix="arXiv",
        ),
    ),
    "2110.05752": (
        "chen2022unispeechsat",
        _conference(
            "Chen et al. 2022b", "Chen, Sanyuan and others",
            "{UniSpeech-SAT}: Universal Speech Representation Learning with Speaker Aware Pre-Training",
            "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)", 2022,
            eprint="2110.05752", archiveprefix="arXiv",
        ),
    ),
    "2111.09296": (
        "babu2022xlsr",
        _conference(
            "Babu et al. 2022", "Babu, Arun and others",
            "{XLS-R}: Self-supervised Cross-lingual Speech Representation Learning at Scale",
            "Interspeech", 2022, eprint="2111.09296", archiveprefix="arXiv",
        ),
    ),
    "2305.13516": (
        "pratap2023mms",
        _preprint(
            "Pratap et al. 2023", "Pratap, Vineel and others",
            "Scaling Speech Technology to 1,000+ Languages", 2023, "2305.13516",
        ),
    ),
    "2104.01027": (
        "hsu2021robust",
        _conference(
            "Hsu et al. 2021b", "Hsu, Wei-Ning and others",
            "Robust wav2vec 2.0: Analyzing Domain Shift in Self-Supervised Pre-Training",
            "Interspeech", 2021, eprint="2104.01027", archiveprefix="arXiv",
        ),
    ),
    "2006.13979": (
        "conneau2021xlsr53",
        _conference(
            "Conneau et al. 2021",
            "Conneau, Alexis and Baevski, Alexei and Collobert, Ronan and Mohamed, Abdelrahman and "
            "Auli, Michael",
            "Unsupervised Cross-lingual Representation Learning for Speech Recognition",
            "Interspeech", 2021, eprint="2006.13979", archiveprefix="arXiv",
        ),
    ),
    "2312.05187": (
        "seamless2023",
        _preprint(
            "Seamless Communication et al. 2023", "{Seamless Communication} and others",
            "Seamless: Multilingual Expressive and Streaming Speech Translation", 2023, "2312.05187",
        ),
    ),
    "2212.04356": (
        "radford2023whisper",
        _conference(
            "Radford et al. 2023",
            "Radford, Alec and Kim, Jong Wook and Xu, Tao and Brockman, Greg and McLeavey, Christine and "
            "Sutskever, Ilya",
            "Robust Speech Recognition via Large-Scale Weak Supervision",
            "International Conference on Machine Learning", 2023, eprint="2212.04356", archiveprefix="arXiv",
        ),
    ),
    "2104.01778": (
        "gong2021ast",
        _conference(
            "Gong et al. 2021", "Gong, Yuan and Chung, Yu-An and Glass, James",
            "{AST}: Audio Spectrogram Transformer", "Interspeech", 2021,
            eprint="2104.01778", archiveprefix="arXiv",
        ),
    ),
    "2210.14493": (
        "hagiwara2023aves",
        _conference(
            "Hagiwara 2023", "Hagiwara, Masato",
            "{AVES}: Animal Vocalization Encoder based on Self-Supervision",
            "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)", 2023,
            eprint="2210.14493", archiveprefix="arXiv",
        ),
    ),
    "2211.06687": (
        "wu2023clap",
        _conference(
            "Wu et al. 2023",
            "Wu, Yusong and Chen, Ke and Zhang, Tianyu and Hui, Yuchen and Berg-Kirkpatrick, Taylor and "
            "Dubnov, Shlomo",
            "Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption "
            "Augmentation",
            "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)", 2023,
            eprint="2211.06687", archiveprefix="arXiv",
        ),
    ),
    "2308.04978": (
        "robinson2024biolingual",
        _conference(
            "Robinson et al. 2024",
            "Robinson, David and Robinson, Adelaide and Akrapongpisak, Lily",
            "Transferable Models for Bioacoustics with Human Language Supervision",
            "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)", 2024,
            eprint="2308.04978", archiveprefix="arXiv",
        ),
    ),
    "2403.10380": (
        "rauch2025birdset",
        _conference(
            "Rauch et al. 2025",
            "Rauch, Lukas and Schwinger, Raphael and Wirth, Moritz and Heinrich, Ren{\\'e} and Huseljic, "
            "Denis and Herde, Marek and Lange, Jonas and Kahl, Stefan and Sick, Bernhard and Tomforde, "
            "Sven and Scholz, Christoph",
            "{BirdSet}: A Large-Scale Dataset for Audio Classification in Avian Bioacoustics",
            "International Conference on Learning Representations", 2025,
            eprint="2403.10380", archiveprefix="arXiv",
        ),
    ),
}  # fmt: skip

_OTHERS: dict[str, Reference] = {
    "sarkar2025": _conference(
        "Sarkar & Magimai-Doss 2025", "Sarkar, Eklavya and Magimai-Doss, Mathew",
        "Comparing Self-Supervised Learning Models Pre-Trained on Human Speech and Animal Vocalizations for "
        "Bioacoustics Processing",
        "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)", 2025,
        eprint="2501.05987", archiveprefix="arXiv",
    ),
    "bell2002": _article(
        "Bell & McCaffrey 2002", "Bell, Robert M. and McCaffrey, Daniel F.",
        "Bias reduction in standard errors for linear regression with multi-stage samples",
        "Survey Methodology", 2002, volume="28", number="2", pages="169--181",
    ),
    "pustejovsky2018": _article(
        "Pustejovsky & Tipton 2018", "Pustejovsky, James E. and Tipton, Elizabeth",
        "Small-sample methods for cluster-robust variance estimation and hypothesis testing in fixed effects "
        "models",
        r"Journal of Business \& Economic Statistics", 2018, volume="36", number="4", pages="672--683",
    ),
    "holm1979": _article(
        "Holm 1979", "Holm, Sture", "A simple sequentially rejective multiple test procedure",
        "Scandinavian Journal of Statistics", 1979, volume="6", number="2", pages="65--70",
    ),
    "clopper1934": _article(
        "Clopper & Pearson 1934", "Clopper, C. J. and Pearson, E. S.",
        "The use of confidence or fiducial limits illustrated in the case of the binomial",
        "Biometrika", 1934, volume="26", number="4", pages="404--413",
    ),
    "northcutt2021": _article(
        "Northcutt et al. 2021", "Northcutt, Curtis G. and Jiang, Lu and Chuang, Isaac L.",
        "Confident Learning: Estimating Uncertainty in Dataset Labels",
        "Journal of Artificial Intelligence Research", 2021, volume="70", pages="1373--1411",
    ),
    "hewitt2019": _conference(
        "Hewitt & Liang 2019", "Hewitt, John and Liang, Percy",
        "Designing and Interpreting Probes with Control Tasks",
        "Empirical Methods in Natural Language Processing (EMNLP)", 2019,
    ),
    "voita2020": _conference(
        "Voita & Titov 2020", "Voita, Elena and Titov, Ivan",
        "Information-Theoretic Probing with Minimum Description Length",
        "Empirical Methods in Natural Language Processing (EMNLP)", 2020,
    ),
    "kingma2015": _conference(
        "Kingma & Ba 2015", "Kingma, Diederik P. and Ba, Jimmy",
        "Adam: {A} Method for Stochastic Optimization",
        "International Conference on Learning Representations", 2015,
        eprint="1412.6980", archiveprefix="arXiv",
    ),
    "loshchilov2019": _conference(
        "Loshchilov & Hutter 2019", "Loshchilov, Ilya and Hutter, Frank",
        "Decoupled Weight Decay Regularization", "International Conference on Learning Representations", 2019,
        eprint="1711.05101", archiveprefix="arXiv",
    ),
    "pedregosa2011": _article(
        "Pedregosa et al. 2011", "Pedregosa, Fabian and others",
        "Scikit-learn: Machine Learning in {Python}", _JMLR, 2011, volume="12", pages="2825--2830",
    ),
    "paszke2019": _conference(
        "Paszke et al. 2019", "Paszke, Adam and others",
        "{PyTorch}: An Imperative Style, High-Performance Deep Learning Library", _NEURIPS, 2019,
    ),
    "wolf2020": _conference(
        "Wolf et al. 2020", "Wolf, Thomas and others",
        "Transformers: State-of-the-Art Natural Language Processing",
        "Empirical Methods in Natural Language Processing: System Demonstrations", 2020,
    ),
    "harris2020": _article(
        "Harris et al. 2020", "Harris, Charles R. and others", "Array programming with {NumPy}",
        "Nature", 2020, volume="585", pages="357--362",
    ),
}  # fmt: skip

#: By key.
REFERENCES: dict[str, Reference] = {**dict(_MODELS.values()), **_OTHERS}

#: Packages of recorded versions that have a paper.
TOOLS = {
    "scikit-learn": "pedregosa2011",
    "torch": "paszke2019",
    "transformers": "wolf2020",
    "numpy": "harris2020",
}


def model_keys(source: str | None) -> tuple[str, ...]:
    """Keys of the papers that a model card names as its source."""
    numbers = re.findall(r"arXiv:(\d{4}\.\d{4,5})|doi:([^\s;]+)", source or "")
    return tuple(_MODELS[n][0] for pair in numbers for n in pair if n in _MODELS)


def bibtex(keys: Iterable[str]) -> str:
    """Entries under these keys, as a file."""
    head = "% References of a report of featurestore-audio; the data sets have papers of their own.\n\n"
    return head + "\n".join(REFERENCES[key].bibtex(key) for key in keys)
