"""Hand a run over: a model folder that others can load and serve, its card, and the training chains as a data set.

`state` reads the run and refuses one that does not hang together; `files` takes the model's files; `card` writes the model
card, `data` the data set with its own. Nothing is written but what the run holds: no figure that is not in metrics/.

Start it: python -m astro.export [--model grpo] [--to export/grpo]
"""
