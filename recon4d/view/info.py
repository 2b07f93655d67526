"""`recon4d info`: what is done in a scene."""

from __future__ import annotations

import shlex

from recon4d.view.summary import summary_line
from recon4d.workspace import StageRecord, Workspace


def scene_info(workspace: Workspace, states: dict[str, tuple[StageRecord | None, str | None]]) -> str:
    """One line per unit: done with its key numbers, out of date with the reason, or not done; then the warnings."""
    lines = [f"scene {workspace.root}"]
    for unit, (record, stale) in states.items():
        if record is None:
            lines.append(f"  --  {unit}: not done")
        elif stale:
            lines.append(f"  old {summary_line(record)}; out of date: {stale}")
        else:
            lines.append(f"  ok  {summary_line(record)}")
    warnings = [warning for record, _ in states.values() if record for warning in record.warnings]
    lines += [f"  warning: {warning}" for warning in warnings]
    if all(record is None for record, _ in states.values()):
        lines.append(f"  next: recon4d run INPUT --out {shlex.quote(str(workspace.root))}")
    return "\n".join(lines)
