"""`recon4d check`: whether a scene keeps what a script asks for."""

from __future__ import annotations

from pathlib import Path

from recon4d.evaluation.gates import GateResult, Gates, default_gates, judge
from recon4d.stages.report_facts import report_facts
from recon4d.workspace import Workspace


def check(workspace: Workspace | Path | str, gates: Gates | None = None) -> tuple[GateResult, ...]:
    """Hold a scene against quality gates; nothing is run or written.

    Args:
        workspace: the scene, or its folder.
        gates: what is asked for; None, or gates that ask for nothing, for `default_gates`.

    Returns:
        One result per gate; the scene is good when all of them hold.

    Raises:
        WorkspaceError: there is no scene.
        OptionsError: a stage is required that does not exist.
    """
    report = report_facts(workspace if isinstance(workspace, Workspace) else Workspace(workspace))
    return judge(report, default_gates(report) if gates is None or gates.asks_for_nothing else gates)
