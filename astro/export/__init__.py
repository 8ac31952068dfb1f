"""Export of a run: a model folder that others can load and serve, its card, and the training chains as a data set.

`state` reads the run and refuses an inconsistent one. `files` copies the model's files, `card` writes the model card,
and `data` writes the data set with its own card. All figures come from metrics/.

Start it: python -m astro.export [--model grpo] [--to export/grpo]
"""
