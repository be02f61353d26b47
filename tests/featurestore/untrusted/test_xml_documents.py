"""XML that would grow, reach elsewhere, or nest without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.untrusted import xml_documents
from featurestore.untrusted.documents import DocumentError
from featurestore.untrusted.xml_documents import read_xml_document

LAUGHS = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><r>&b;</r>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LAUGHS, "DOCTYPE 'r'"),
        ('<!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><r>&f;</r>', "DOCTYPE 'r'"),
        ('<!DOCTYPE r SYSTEM "http://host/r.dtd"><r/>', "DOCTYPE 'r'"),
        ('<!DOCTYPE r PUBLIC "p" "http://host/r.dtd"><r/>', "DOCTYPE 'r'"),
        ("<!DOCTYPE other><r/>", "DOCTYPE 'other'"),
        ("<r>&f;</r>", "no XML (undefined entity in line 1)"),
        ("<r><a></r>", "no XML (mismatched tag in line 1)"),
        ("<r>" * 50 + "</r>" * 50, "more than 40 levels"),
        ("<r>" + "<a/>" * 80 + "</r>", "more than 64 elements"),
        ('<?xml version="1.0" encoding="klingon"?><r/>', "no XML"),
        ("<s/>", "expected an element 'r', found 's'"),
    ],
)
def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, said: str) -> None:
    monkeypatch.setattr(xml_documents, "MOST_ELEMENTS", 64)
    path = tmp_path / "x.xml"
    path.write_text(content)
    with pytest.raises(DocumentError) as error:
        read_xml_document(path, root="r", doctype="r")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes(
        '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE r><!-- --><r x:a="ñ"><b>1 &amp; <![CDATA[<2>]]>'
        "</b></r>".encode("latin-1")
    )
    tree = read_xml_document(path, root="r", doctype="r")
    assert (tree.tag, tree.attrib, tree.findtext("b")) == ("r", {"x:a": "ñ"}, "1 & <2>")
