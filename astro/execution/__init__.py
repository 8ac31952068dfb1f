"""Execution of jobs over a model: the scheduler of one engine, the local and the Ray runner, and the store of results."""
