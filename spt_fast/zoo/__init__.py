"""Tiny models whose knowledge is known: worlds, corpora, recipes, and where the built models lie."""

from spt_fast.zoo.catalogue import Entry, catalogue, find

__all__ = ["Entry", "catalogue", "find"]
