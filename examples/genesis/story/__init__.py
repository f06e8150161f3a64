"""A grammar that tells novels, over word lists: a seed is a novel."""
