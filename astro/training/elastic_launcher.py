"""The process between a stage and its workers: torchrun or `accelerate launch`. It dies with the stage.

python -m astro.training.elastic_launcher torchrun|accelerate ARGUMENTS...     # started only by astro.training.launch
"""

import os
import signal
import sys

from astro.process import die_with


def explain(rank: int, code: int) -> str:
    """One line on which worker failed, and how."""
    if code >= 0:
        return f"training process of rank {rank} ended with exit code {code}"
    name = signal.Signals(-code).name
    guess = " (out of memory?)" if name == "SIGKILL" else ""
    return f"training process of rank {rank} was killed by {name}{guess}"


def main() -> None:
    """Run the workers. Exits with the code of the first failed one, or 128 + n if signal n ended it."""
    die_with(int(os.environ["ASTRO_PARENT"]))
    os.environ["ASTRO_PARENT"] = str(os.getpid())  # for the workers
    kind = sys.argv.pop(1)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        if kind == "torchrun":
            from torch.distributed.run import main as torchrun

            torchrun()
        else:
            from accelerate.commands.launch import main as accelerate_launch

            accelerate_launch()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        if code != 2:  # 2: a user error, which the stage reports
            print(f"error: {explain(rank, code)}", file=sys.stderr, flush=True)
        sys.exit(code if code >= 0 else 128 - code)
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == "__main__":
    main()
