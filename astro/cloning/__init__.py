"""Procedure cloning: search trees become chains of thought (paper sections 2.3 and 2.4)."""
