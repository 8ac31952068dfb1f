"""Record the golden trees: `python -m tests.search.record`. Run it only when the search is meant to change."""

import json

from tests.search.golden import CASES, FOLDER, dump


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        path = FOLDER / f"tree_{name}.json"
        path.write_text(json.dumps(dump(*case), indent=1) + "\n", encoding="utf-8")
        print(f"{path.relative_to(FOLDER.parent)}: {len(dump(*case)['tree']['nodes'])} nodes")


if __name__ == "__main__":
    main()
