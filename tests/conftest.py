"""Settings of all tests."""

import os

import pytest

# Waiting OpenMP threads that spin would starve the processes that the tests start. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

SMOKE = {f"tests/pipeline/test_{name}.py" for name in ("smoke", "dvc", "kill")}
"""Files of tests that need the finished smoke pipeline, which costs minutes, once in a process."""


def group_of(nodeid: str) -> str:
    """Tests of one group stay in one process: a file as a rule, those that share a run that is made first."""
    path = nodeid.split("::")[0]
    if path in SMOKE:
        return "smoke"
    return path.rpartition("/")[0] if path.startswith(("tests/export/", "tests/remote/")) else path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that two processes (`make test`) end at about the same time."""
    for item in items:
        needs = {"smoke", "clone"} & set(getattr(item, "fixturenames", ()))
        if needs and group_of(item.nodeid) != "smoke":
            raise pytest.UsageError(
                f"{item.nodeid} needs the smoke pipeline: name its file in SMOKE (tests/conftest.py)"
            )
    items.sort(key=lambda item: (group_of(item.nodeid) != "smoke", item.get_closest_marker("slow") is None))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Work is handed out group by group, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)
