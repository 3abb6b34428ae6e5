"""What a check of training data found, in words."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from shapewright.data.capture import listed

# Of the things that a warning is true of, so many are named; errors name all that a person can mend.
_MOST_NAMED = {"warning": 10, "error": 1000}


@dataclass
class CheckReport:
    """Collect what a check found.

    Args:
        path: The folder.
        facts: What it holds.
        errors: What must be mended before training, by sentence, with what it is true of.
        warnings: What deserves a look.
    """

    path: Path
    facts: list[str] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    warnings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def passed(self) -> bool:
        """Whether nothing must be mended."""
        return not self.errors

    def table(self) -> list[str]:
        """Return what stands between the facts and the sentences."""
        return []

    def lines(self) -> list[str]:
        """Return the report as sentences, the verdict last."""
        verdict = "ready to train" if self.passed else "mend the errors before training"
        found = {"warning": self.warnings, "error": self.errors}
        return [
            *self.facts,
            *self.table(),
            *(
                f"{kind}: {sentence}: {listed(names, _MOST_NAMED[kind])}"
                for kind, sentences in found.items()
                for sentence, names in sentences.items()
            ),
            f"errors: {len(self.errors)}, warnings: {len(self.warnings)}; {verdict}",
        ]
