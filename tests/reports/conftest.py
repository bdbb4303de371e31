"""A rendered report that several tests look at."""

from __future__ import annotations

import pytest

from medresnet3d.reports import render_report
from tests.reports.samples import everything


@pytest.fixture(scope="session")
def sample_page() -> str:
    """The text of a page with every kind of block."""
    return render_report(everything())
