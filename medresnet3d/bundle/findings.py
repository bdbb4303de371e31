"""What the static inspection reports."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN = 160


@dataclass(frozen=True)
class Finding:
    """One thing in a bundle that could run code, or that the inspection cannot vouch for.

    Args:
        where: file in the bundle, and the id in it where there is one.
        what: what stands there.
        why: why this needs the user's trust.
    """

    where: str
    what: str
    why: str

    def __str__(self) -> str:
        """One line, without control characters."""
        what = self.what if len(self.what) <= SHOWN else f"{self.what[:SHOWN]}..."
        text = f"{self.where}: {what}: {self.why}" if what else f"{self.where}: {self.why}"
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting a bundle.

    Args:
        findings: what was found, in order of the files.
        content_hash: SHA-256 over the names and contents of all files.
    """

    findings: tuple[Finding, ...]
    content_hash: str

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings
