"""The command line of the project: `astro COMMAND`, or `python -m astro COMMAND`."""

import difflib
import importlib
import sys

from astro.process import run_stage

COMMANDS = {
    "ask": ("astro.ask", "main", "answer one problem with the trained models, step by step"),
    "plan": (
        "astro.plan",
        "main",
        "estimate what a profile costs: requests, tokens, hours, disk, memory; --dry-run checks it",
    ),
    "check": ("astro.check", "main", "check params.yaml, or a task of your own (my_task.py)"),
    "check problems": ("astro.importing.preview", "main", "preview what a run would read into the problem sets"),
    "profile": ("astro.profiles", "profile_command", "list the profiles, or apply one to params.yaml"),
    "ablations": ("astro.ablations.__main__", "main", "run, list, keep and compare ablations"),
    "export": ("astro.export.__main__", "main", "export a run: model, model card, data set"),
    "ui": ("astro.tracking.__main__", "main", "browse the runs in MLflow"),
}
"""Command -> (module, its function, one-line description)."""

EXAMPLES = """examples:
  astro ask "make 24 from 3 5 7 9" --samples 3 --page answer.html
  astro plan llama-3.1-8b --dry-run
  astro profile smoke
  astro check problems sources/own.csv
  astro ablations run --only phrases-off --seeds 1
  astro export --model grpo --to /data/astro
  astro ui --port 5001"""


def usage() -> str:
    """The help text of `astro`."""
    commands = "\n".join(f"  {name:14} {what}" for name, (_, _, what) in COMMANDS.items())
    return (
        f"usage: astro COMMAND [options]\n\ncommands:\n{commands}\n\n{EXAMPLES}\n\nRun `astro COMMAND --help` "
        "for the options."
    )


def main() -> None:
    """Run one command."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are: {', '.join(COMMANDS)}"
        print(f"error: astro has no command {name!r}; {hint}", file=sys.stderr)
        sys.exit(2)
    if rest and f"{name} {rest[0]}" in COMMANDS:
        name = f"{name} {rest.pop(0)}"
    sys.argv = [f"astro {name}", *([name] if name == "ui" else []), *rest]
    module, function, _ = COMMANDS[name]
    loaded = importlib.import_module(module)  # imports what a literal names
    run_stage(lambda: sys.exit(getattr(loaded, function)()))


if __name__ == "__main__":
    main()
