"""Whose work this process does now: what each of its log lines and metrics carries."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """A run of a stage; small and picklable, so that it travels with the work."""

    stage: str = ""
    section: str = ""
    """Name of the settings section: of a corpus, a model, pseudo-labels."""

    run: str = ""
    """Identity of the run, as in the runs table."""

    log: Literal["json", "text"] = "json"
    """How workers write their lines."""

    def of(self, stage: str, section: str = "") -> "Origin":
        """Return the same run's origin of another step."""
        return replace(self, stage=stage, section=section or self.section)


# Of the process and not of a context: threads that read ahead log too, and a process does the
# work of one run at a time.
_here = Origin()


def here() -> Origin:
    """Return whose work this process does."""
    return _here


def enter(origin: Origin) -> Origin:
    """Do the work of another run from now on; return the one before."""
    global _here
    before, _here = _here, origin
    return before
