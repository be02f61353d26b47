"""The YAML of a study file: plain values with lines, and values put over them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import Mistakes
from studies.study_file.document import read_document


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "s.yaml").write_text(text, "utf-8")
    return tmp_path / "s.yaml"


def test_values_are_those_of_yaml_1_2_and_keys_know_their_lines(tmp_path: Path) -> None:
    text = "a: 1\nb: [x, 2.5, true]\nc:\n  d: yes\n  e: 12:30:00\n  f: 010\n"
    text += "g: 1e-3\nh: 2024-01-01\ni:\n'j': '1'\n"
    document, found = read_document(written(tmp_path, text))
    assert document.value == {
        "a": 1,
        "b": ["x", 2.5, True],
        "c": {"d": "yes", "e": "12:30:00", "f": "010"},
        "g": 0.001,
        "h": "2024-01-01",
        "i": None,
        "j": "1",
    }
    assert [document.lines[place] for place in (("a",), ("b", 1), ("c",), ("c", "f"), ("j",))] == [
        1,
        2,
        3,
        6,
        10,
    ]
    assert document.where(("c", "e", "deeper")) == f"{tmp_path}/s.yaml:5"
    assert not found.lines


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text("ab: #-0,'\"\nñ", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1), plain, min_size=1, max_size=3))
def test_what_another_library_writes_is_read_back(value: dict[str, object]) -> None:
    import tempfile

    class NoAlias(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    with tempfile.TemporaryDirectory() as folder:
        document, found = read_document(
            written(Path(folder), yaml.dump(value, Dumper=NoAlias, allow_unicode=True))
        )
    assert document.value == value
    assert not found.lines


ALIASES = """\
a: &one {k: 1, l: [x, y]}
b: *one
c:
  l: own
  <<: *one
d: &two
  <<: {m: 3, k: 2}
  n: 4
e:
  <<: [*two, *one]
f: &scalar 7
g: [*scalar, *scalar]
"""


def test_an_alias_is_what_it_names_with_the_lines_of_that(tmp_path: Path) -> None:
    document, found = read_document(written(tmp_path, ALIASES))
    assert not found.lines
    assert document.value == yaml.safe_load(ALIASES)
    # Of two anchors of one name the last one counts; the library above reads no such file.
    document, found = read_document(written(tmp_path, "a: &x 1\nb: *x\nc: &x 2\nd: *x\n"))
    assert document.value == {"a": 1, "b": 1, "c": 2, "d": 2}
    document, _ = read_document(written(tmp_path, ALIASES))
    lines = {
        ("b",): 2,
        ("b", "l", 1): 1,
        ("c",): 3,
        ("c", "l"): 4,
        ("c", "k"): 1,
        ("e", "m"): 7,
        ("e", "l"): 1,
    }
    assert {place: document.lines[place] for place in lines} == lines


def test_what_is_put_over_an_alias_leaves_what_it_names(tmp_path: Path) -> None:
    document, _ = read_document(written(tmp_path, ALIASES), ["b.k=5", "b.l.0=z"])
    assert document.value["b"] == {"k": 5, "l": ["z", "y"]}
    assert document.value["a"] == {"k": 1, "l": ["x", "y"]}


def test_a_page_of_aliases_that_means_billions_of_values_is_one_line(tmp_path: Path) -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi"))
    with pytest.raises(Mistakes) as raised:
        read_document(written(tmp_path, text))
    assert raised.value.lines == (
        f"{tmp_path}/s.yaml: expected at most 50,000 values, aliases (*name) make more of them",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "s.yaml:1: expected a study"),
        ("# nothing\n", "s.yaml:1: expected a study"),
        ("- a\n", "s.yaml:1: expected keys with values (store: …), got a list"),
        ("a:\n\tb: 1\n", "s.yaml:2: no YAML: a tab; indent with spaces"),
        (
            "a: 1\nb: 'x\n",
            "no YAML: found unexpected end of stream (while scanning a quoted scalar from line 2)",
        ),
        ("a: [1\nb: 2\n", "s.yaml:2: no YAML"),
        ("a: *x\n", "s.yaml:1: no YAML: found undefined alias 'x'"),
        ("a: \x07\n", "s.yaml: no YAML"),
    ],
)
def test_what_is_no_yaml_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Mistakes) as raised:
        read_document(written(tmp_path, text))
    assert len(raised.value.lines) == 1
    assert said in raised.value.lines[0]
    assert "\n" not in raised.value.lines[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: a: this key stands twice (line 1 has it too); keep one of them"),
        ("a: &x [*x]\n", ":1: a[0]: expected no alias (*name) of what it stands in"),
        ("a: &x\n  b: {c: *x}\n", ":2: a.b.c: expected no alias (*name) of what it stands in"),
        ("a: &x\n  <<: *x\n", ":2: a.<<: expected no alias (*name) of what it stands in"),
        ("a: &x 1\nb:\n  <<: *x\n", ":3: b.<<: expected the alias of a map"),
        ("a: !!python/object:os.system [ls]\n", "expected no tag"),
        ("a: !x y\n", "expected no tag"),
        ("a: 99999999999999999999999\n", "64 bits"),
        ("? [a]\n: 1\n", "expected a name as key"),
        ("a: " + "[" * 60 + "]" * 60 + "\n", "at most 40 levels"),
    ],
)
def test_what_is_no_plain_value_is_noted(tmp_path: Path, text: str, said: str) -> None:
    _, found = read_document(written(tmp_path, text))
    assert len(found.lines) == 1
    assert said in found.lines[0]


def test_bytes_that_are_no_text_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(Mistakes, match=r"s\.yaml:2: expected UTF-8"):
        read_document(tmp_path / "s.yaml")
    with pytest.raises(Mistakes, match="no such file"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(Mistakes, match="this is a folder"):
        read_document(tmp_path)


def test_a_value_is_put_over_and_its_place_is_the_option(tmp_path: Path) -> None:
    path = written(tmp_path, "models:\n  a.b: {model: x}\n  a: {model: y}\nlist: [1, 2]\n")
    document, _ = read_document(
        path, ["models.a.b.model=[p, q]", "list.1=7", "extract.device=cuda", "models.a.model="]
    )
    assert document.value == {
        "models": {"a.b": {"model": ["p", "q"]}, "a": {"model": None}},
        "list": [1, 7],
        "extract": {"device": "cuda"},
    }
    assert document.where(("models", "a.b", "model", 1)) == "--set models.a.b.model=[p, q]"
    assert document.where(("models", "a.b")) == f"{path}:2"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("a", "expected KEY=VALUE"),
        ("=1", "expected KEY=VALUE"),
        ("list.9=1", "expected a number below 2"),
        ("a.b=1", "a is 1 and has no key 'b'"),
        ("a=[", "no YAML"),
        ("a=*x", "no YAML"),
    ],
)
def test_an_override_that_names_nothing(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(Mistakes) as raised:
        read_document(written(tmp_path, "a: 1\nlist: [1, 2]\n"), [override])
    assert raised.value.lines[0].startswith(f"--set {override}: ")
    assert said in raised.value.lines[0]
