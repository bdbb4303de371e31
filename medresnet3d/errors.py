"""Errors that a person can act on, and the exit codes of the command line.

Every message says what was found, where (file, field) and what to do about it. The command line prints the message
without a traceback and ends with :attr:`MedResNetError.exit_code`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    NOTHING_DONE = 3


class MedResNetError(Exception):
    """Base class of all errors that this package raises on purpose."""

    exit_code = ExitCode.USAGE


class ConfigError(MedResNetError):
    """A configuration value, command-line option or override cannot be used."""


class DataError(MedResNetError):
    """An input, manifest or label cannot be used."""


class GeometryError(DataError):
    """The geometry of a scan (affine, spacing, slice order) is unusable or ambiguous."""


class AmbiguousInputError(DataError):
    """An input leaves a question that only a person can answer (which series, which point); the message asks it."""


class CancelledError(MedResNetError):
    """The caller ended a computation before it was finished."""

    exit_code = ExitCode.NOTHING_DONE


class BundleError(MedResNetError):
    """A bundle is missing, incomplete or malformed."""


class WeightsError(BundleError):
    """Trained weights are missing, do not fit the network or are not plain tensors."""


class UntrustedBundleError(BundleError):
    """A bundle from elsewhere contains something that could run code and has not been trusted.

    Args:
        message: what was found and how to go on.
        findings: one line for each finding.
    """

    def __init__(self, message: str, findings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.findings = list(findings)
