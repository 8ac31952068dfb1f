"""Contracts of the pipeline: Pydantic only, one file per stage and `records.py` for the data that flows between them."""
