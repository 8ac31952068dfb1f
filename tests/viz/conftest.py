"""Fixtures: the example run of `tests/viz/example.py`."""

import pytest

from astro.viz.report import ReportData
from schemas.evaluate import EvalMetrics
from tests.viz.example import make_metrics, make_report_data


@pytest.fixture
def data() -> ReportData:
    return make_report_data()


@pytest.fixture
def metrics() -> EvalMetrics:
    return make_metrics()
