"""See the package's docstring."""

import sys
from pathlib import Path

from astro.files import write_text
from astro.process import UserError, run_stage
from tools.docs.generated_blocks import pages
from tools.docs.pictures import all_pictures
from tools.docs.reference import reference_pages


def stale() -> dict[Path, str]:
    """File -> new content, for files that are out of date."""
    wanted = {**all_pictures(), **reference_pages(), **pages()}
    return {
        path: text for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def main() -> None:
    """Write the files that are out of date, or list them."""
    if unknown := [argument for argument in sys.argv[1:] if argument != "--check"]:
        raise UserError(f"unknown argument {unknown[0]!r}; the only one is --check")
    found = stale()
    if "--check" in sys.argv[1:]:
        print("\n".join(f"out of date: {path}" for path in found) or "the documents are up to date")
        sys.exit(1 if found else 0)
    for path, text in found.items():
        write_text(path, text)
    print("\n".join(f"written: {path}" for path in found) or "the documents were already up to date")


if __name__ == "__main__":
    run_stage(main)
