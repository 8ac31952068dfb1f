"""Presentation of results: the offline pages, plots, chain graphs, and console output."""
