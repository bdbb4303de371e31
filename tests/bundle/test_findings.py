from __future__ import annotations

from medresnet3d.bundle.findings import Finding, Inspection


def test_a_finding_is_one_line_that_cannot_fool_a_terminal() -> None:
    line = str(Finding("a.json", "x\n\x1b[2J" + "y" * 500, "why"))
    assert "\n" not in line and "\x1b" not in line
    assert line.startswith("a.json: x") and line.endswith("...: why")
    assert len(line) < 200


def test_a_finding_without_a_value() -> None:
    assert str(Finding("a.py", "", "this file holds code")) == "a.py: this file holds code"


def test_inspection_is_ok_without_findings() -> None:
    assert Inspection((), "0").ok
    assert not Inspection((Finding("a", "b", "c"),), "0").ok
