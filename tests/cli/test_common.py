from __future__ import annotations

import errno

import pytest
import typer

from medresnet3d.cli.common import INTERRUPTED, command, report_error, set_debug
from medresnet3d.errors import DataError, UntrustedBundleError


def _exit_code(error: BaseException) -> int:
    def verb() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        command(verb)()
    return caught.value.exit_code


def test_return_value_is_the_exit_code() -> None:
    for value, code in ((None, 0), (0, 0), (1, 1)):
        with pytest.raises(typer.Exit) as caught:
            command(lambda value=value: value)()
        assert caught.value.exit_code == code


def test_error_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(DataError("scan.nii: it is empty.")) == 2
    assert capsys.readouterr().err == "Error: scan.nii: it is empty.\n"


def test_findings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(UntrustedBundleError("No.", ["one", "two"])) == 2
    assert capsys.readouterr().err == "Error: No.\n  - one\n  - two\n"


def test_error_inside_a_component_that_monai_built_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    wrapped = RuntimeError("Failed to instantiate component")
    wrapped.__cause__ = DataError("manifest.json: nothing is listed.")
    assert _exit_code(wrapped) == 2
    assert capsys.readouterr().err == "Error: manifest.json: nothing is listed.\n"


def test_interrupt_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(KeyboardInterrupt()) == INTERRUPTED
    assert capsys.readouterr().err == "Interrupted.\n"
    assert _exit_code(KeyboardInterrupt("Stopped; go on with --resume.")) == INTERRUPTED
    assert capsys.readouterr().err == "Stopped; go on with --resume.\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOENT, "check the path"), (errno.ENOSPC, "disk is full"), (errno.EACCES, "permissions")],
)
def test_errors_of_the_operating_system_say_what_to_do(
    number: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(OSError(number, "x", "out/a.nii")) == 2
    assert text in capsys.readouterr().err


def test_unexpected_error_is_one_sentence_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(ZeroDivisionError("division by zero")) == 3
    assert capsys.readouterr().err.startswith("Error: unexpected ZeroDivisionError: division by zero")


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    set_debug(True)
    try:
        assert report_error(DataError("x")) == 2
    finally:
        set_debug(False)
    assert "DataError: x" in capsys.readouterr().err
