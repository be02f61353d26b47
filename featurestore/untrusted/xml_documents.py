"""XML that may be anybody's, as a plain tree: nothing is looked up elsewhere, and nothing grows.

A document type may hold entities, which stand for each other or for files of this machine: what has one is
refused, but for a type that is a bare name, which some programs write and which says nothing.
"""

from __future__ import annotations

import os
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from featurestore.untrusted.documents import MOST_BYTES, MOST_DEPTH, DocumentError, read_bytes

# An element takes some 500 bytes of memory.
MOST_ELEMENTS = 1 << 19


def read_xml_document(path: str | os.PathLike[str], *, root: str, doctype: str = "") -> Element:
    """The tree of an XML file, without namespaces: names are as written.

    Args:
        path: The file.
        root: Name that its outermost element must have.
        doctype: A document type that may be named, without anything in it.

    Raises:
        DocumentError: see `read_bytes`; or no such XML, a document type, more than `MOST_DEPTH` levels or
            more than `MOST_ELEMENTS` elements.
    """
    data = read_bytes(path, most_bytes=MOST_BYTES)
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = n_elements = 0

    def declared(name: str, system_id: str | None, public_id: str | None, has_inner: int) -> None:
        if name != doctype or system_id or public_id or has_inner:
            raise _with_type(name)

    def begun(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, n_elements
        depth, n_elements = depth + 1, n_elements + 1
        if depth > MOST_DEPTH:
            raise DocumentError(f"has more than {MOST_DEPTH} levels of elements")
        if n_elements > MOST_ELEMENTS:
            raise DocumentError(f"has more than {MOST_ELEMENTS:,} elements")
        if n_elements == 1 and name != root:
            raise DocumentError(f"expected an element {root!r}, found {name[:40]!r}")
        builder.start(name, attributes)

    def ended(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartDoctypeDeclHandler = declared
    parser.StartElementHandler = begun
    parser.EndElementHandler = ended
    parser.CharacterDataHandler = builder.data
    _parse(parser, data)
    return builder.close()


def require_no_doctype(path: str | os.PathLike[str]) -> None:
    """Refuse an XML file with a document type, before another library reads it.

    Raises:
        DocumentError: it has one, or see `read_xml_document`; elements are not counted.
    """
    data = read_bytes(path, most_bytes=MOST_BYTES)
    parser = expat.ParserCreate()
    depth = 0

    def declared(name: str, *_: object) -> None:
        raise _with_type(name)

    def begun(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise DocumentError(f"has more than {MOST_DEPTH} levels of elements")

    def ended(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartDoctypeDeclHandler = declared
    parser.StartElementHandler = begun
    parser.EndElementHandler = ended
    _parse(parser, data)


def _parse(parser: expat.XMLParserType, data: bytes) -> None:
    """Hand all of a document to a parser.

    Raises:
        DocumentError: it is no XML, or a handler raised it.
    """
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise DocumentError(f"no XML ({reason} in line {error.lineno})") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not have, or decodes otherwise
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"no XML that can be read ({error})") from None


def _with_type(name: str) -> DocumentError:
    return DocumentError(
        f"has a document type (DOCTYPE {name[:40]!r}), which may hold entities; remove that declaration"
    )
