# SPDX-License-Identifier: MPL-2.0
"""What the sources and the documents say about documents is true: each one that is named is in the repository, and so
is the heading that is named with it, as in `docs/platform.md, "zfs list"`."""

import importlib.util
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"

# A document in words: its name, and perhaps a heading in quotes behind a comma.
POINTER = re.compile(r'docs/([\w./-]+?\.md)\b(?:,\s*"([^"\n]+)")?')
# A document that is named as if it lay elsewhere: below spec/, or by a section's number, which no heading has here.
ELSEWHERE = re.compile(r"\bspec/[\w-]+\.(?:md|json)|[\w-]+\.md,? (?:sections? )?\d+(?:\.\d+)*")
# A document in Markdown: [text](name.md#anchor).
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
# A line that goes on in the next one, with or without a comment sign.
BREAK = re.compile(r"\s*\n\s*(?:#+ ?)?")

TEXTS = {".py", ".md", ".cfg", ".toml", ".xml", ".yaml", ""}
ROOMS = ("usr", "smf", "mockcn", "test", "bench", "docs", ".ci")


def sources():
    """Every text of the tree that people write: the rooms' files, and those at the top."""
    found = [path for room in ROOMS for path in (CHECKOUT / room).rglob("*")] + list(CHECKOUT.iterdir())
    return [
        path
        for path in found
        if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts and path.name != ".git"
    ]


def headings(document):
    return re.findall(r"^#+ (.+?)\s*$", document.read_text(), re.MULTILINE)


def anchor(heading):
    """The anchor that Markdown makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def pointers():
    for path in sources():
        if path == Path(__file__):
            continue
        text = BREAK.sub(" ", path.read_text(errors="replace"))
        for match in POINTER.finditer(text):
            yield path.relative_to(CHECKOUT), match[1], match[2]


def test_every_document_and_heading_that_is_pointed_at_exists():
    wrong = []
    for path, name, heading in pointers():
        document = DOCS / name
        if not document.exists():
            wrong.append(f"{path}: docs/{name} is not there")
        elif heading is not None and heading not in headings(document):
            wrong.append(f"{path}: docs/{name} has no heading {heading!r}")
    assert not wrong, "\n".join(wrong)


def test_no_document_outside_the_repository_is_pointed_at():
    """In sources: a document is named with its folder, so that one who reads the line finds it."""
    wrong = []
    for path in sources():
        if path.suffix == ".md" or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            wrong += [f"{path.relative_to(CHECKOUT)}:{number}: {found}" for found in ELSEWHERE.findall(line)]
    assert not wrong, "\n".join(wrong)


def test_links_between_documents_lead_somewhere():
    wrong = []
    for page in (*DOCS.rglob("*.md"), *CHECKOUT.glob("*.md")):
        for target, wanted in LINK.findall(page.read_text()):
            document = (page.parent / target) if target else page
            if not document.exists():
                wrong.append(f"{page.name}: {target} is not there")
            elif wanted and wanted not in map(anchor, headings(document)):
                wrong.append(f"{page.name}: {target or page.name} has no #{wanted}")
    assert not wrong, "\n".join(wrong)


def test_tables_of_the_vm_object_page_are_those_of_vmload():
    spec = importlib.util.spec_from_file_location("make_property_tables", DOCS / "make_property_tables.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    page = (DOCS / "vm-object.md").read_text()
    assert page == maker.page_with_tables(page), "run python3 docs/make_property_tables.py"
    for name, entry in maker.table("vm-properties.json")["properties"].items():
        if not entry["ignore"] and (entry["in_vm_object"] or entry["payload"]):
            assert f"| `{name}` |" in page, f"{name} has no row"
