"""What every verb needs that runs an engine: this package's own errors out of MONAI's, and no log of them besides."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from medresnet3d.errors import MedResNetError


def own_error(error: BaseException | None) -> MedResNetError | None:
    """Return this package's error that MONAI wrapped in its own while it built or ran a component."""
    while error is not None and not isinstance(error, MedResNetError):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def quiet_engines() -> Iterator[None]:
    """Keep ignite from logging an error that is reported as one sentence anyway."""
    logger = logging.getLogger("ignite")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
