"""Write down what code each stage depends on: code/<domain>/<stage>.json, hashes of the modules that it reaches.

    python -m stages.code

DVC runs it at every `dvc repro` (`always_changed`), in a second. The stages after it run only where a hash has changed.
`astro.code_identity` says what counts as a change.

Deviations from the paper: none; the paper has no such thing.
"""

from astro.code_identity import write_all
from astro.runtime import run_stage


def main() -> None:
    """Write all files."""
    for _ in write_all():
        pass


if __name__ == "__main__":
    run_stage(main)
