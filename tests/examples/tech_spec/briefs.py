"""What documents are written from: the fixtures' designs, with a technology for each category."""

from __future__ import annotations

from hashlib import sha256

from examples.tech_spec.catalogue import load
from examples.tech_spec.document import Brief, Choice, write_document
from examples.tech_spec.fixtures import read_documents
from examples.tech_spec.ranking import rank
from examples.tech_spec.requirements import read_requirements

COMPLETE = ("clinic", "auction")
"""The designs that have all documents."""


def brief_of(name: str, place: int = 0) -> Brief:
    """A design with the option of a place in each ranking; by default the first."""
    design = read_documents(name)
    requirements = read_requirements(design["prd"])
    ranked = {
        category: rank(load()[category].options, need, requirements)
        for category, need in requirements.needs.items()
        if need.needed
    }
    chosen = {category: options[place] for category, options in ranked.items()}
    choices = {c: Choice(each, "the user", "We know it.") for c, each in chosen.items()}
    return Brief(design, requirements, choices)


def print_digest(name: str) -> None:
    """Print a digest of a document, in a process of its own."""
    print(sha256(repr(write_document(brief_of(name))).encode()).hexdigest(), flush=True)
