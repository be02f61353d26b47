"""What `fs doctor` prints."""

from __future__ import annotations

from studies.doctor import findings
from studies.terminal.screen import console


def print_findings(store: str | None) -> bool:
    """Print each finding as it is made; what to do about it on a line of its own.

    Returns:
        False where something is at fault.
    """
    screen, sound = console(), True
    for finding in findings(store):
        sound = sound and not finding.is_fault
        screen.print(
            f"{'✗' if finding.is_fault else '·' if finding.remedy else '✓'} {finding.subject}: {finding.text}"
        )
        if finding.remedy:
            screen.print(f"    {finding.remedy}")
    return sound
