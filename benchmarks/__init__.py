"""Benchmarks of single parts, with committed reference figures."""
