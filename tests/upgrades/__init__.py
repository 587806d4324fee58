"""Databases of other releases: an earlier one's is upgraded, a later one's is shared."""
