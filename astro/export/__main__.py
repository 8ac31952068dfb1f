"""python -m astro.export: write the model folder, model card and data set of the run in this workspace.

    python -m astro.export                                  # models/grpo -> export/grpo
    python -m astro.export --model sft --to /data/out --replace
    python -m astro.export --alias production               # also point the registry's alias to it

The model's version in the registry (MLflow) gets folder, host and commit as tags. ASTRO_TRACKING=off skips the registry.
"""

import argparse
import hashlib
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from astro import tracking
from astro.export.source_run import Run, read_run, titles
from astro.files import atomic_path, write_json
from astro.process import UserError, home_root, program, run_stage

MANIFEST = "provenance.json"
REGISTERED = "astro"
CANDIDATE = "candidate"
"""Alias of the last exported model, unless --alias names another."""


def main(argv: Sequence[str] | None = None) -> None:
    """Check, write and register the export, and print where everything is."""
    args = parse(argv)
    to = args.to or Path("export") / args.model
    name = args.name or f"astro-{args.model.replace('_', '-')}"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(f"--name {name!r}: expected letters, digits, '.', '_' and '-'")
    tracking.check_alias(args.alias or CANDIDATE)
    check_target(to, replace=args.replace)
    run = read_run(args.model, allow_stale=args.allow_stale)
    if run.stale and args.alias:
        raise UserError("--alias: stale files cannot be registered; run `dvc repro` first")
    tracking.check_store(home_root())  # before gigabytes are copied
    write(run, to, name)
    print(f"{to}: {name}, with its card (README.md) and its chains (dataset/)")
    for line in run.stale:
        print(f"warning: {line}")
    if not run.stale and (version := register(run, to, args.alias or CANDIDATE)):
        print(f"registry: models:/{REGISTERED}@{args.alias or CANDIDATE} is version {version}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=program("export"), description="Export a run: model, card, data set.")
    parser.add_argument(
        "--model", choices=titles(), default="grpo", help="name of the model in models/ (default: grpo)"
    )
    parser.add_argument("--to", type=Path, help="target folder (default: export/<model>)")
    parser.add_argument("--name", help="name of the model in its card (default: astro-<model>)")
    parser.add_argument("--alias", help=f"alias of the registered version (default: {CANDIDATE})")
    parser.add_argument("--replace", action="store_true", help="replace an earlier export")
    parser.add_argument("--allow-stale", action="store_true", help="export even if files have changed since their run")
    return parser.parse_args(argv)


def check_target(to: Path, *, replace: bool) -> None:
    """Refuse to overwrite a folder unless it is an export and --replace is given.

    Raises:
        UserError: the folder may not be replaced.
    """
    if not to.exists():
        return
    if not (to / MANIFEST).is_file():
        raise UserError(f"--to {to}: exists, but is not an export (it has no {MANIFEST}); nothing was changed")
    if not replace:
        raise UserError(f"--to {to}: contains an export already; --replace replaces it")


def write(run: Run, to: Path, name: str) -> None:
    """Write the whole folder, or nothing. The same run gives the same bytes."""
    from astro.export.card import model_card  # imported here, because pyarrow and datasets are slow to import
    from astro.export.data import write_dataset
    from astro.export.model_files import copy_files, licence_files, model_files

    files = model_files(run.folder)
    with atomic_path(to) as folder:
        folder.mkdir()
        copy_files([*files, *licence_files()], folder)
        write_dataset(run, folder / "dataset")
        model_card(run, name).save(folder / "README.md")
        written = sorted(p for p in folder.rglob("*") if p.is_file())
        write_json(
            folder / MANIFEST,
            {
                "name": name,
                "model": run.model,
                "md5": run.md5(run.folder),
                "run": run.fingerprint,
                "commit": run.commit,
                "seed": run.params.run.seed,
                "stale": list(run.stale),
                "stages": run.lineage,
                "sha256": {str(p.relative_to(folder)): sha256(p) for p in written},
            },
        )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in the format of sha256sum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def register(run: Run, to: Path, alias: str) -> str:
    """Tag the model's version in the registry and point `alias` to it. Returns the version; "": tracking is off."""
    tags = {
        "export.folder": to.resolve(),
        "export.host": platform.node(),
        "export.commit": run.commit,
        "export.run": run.fingerprint,
    }
    return tracking.register_model(
        home_root(), name=REGISTERED, path=str(run.folder), md5=run.md5(run.folder), alias=alias, tags=tags
    )


if __name__ == "__main__":
    run_stage(main)
