"""The end of the stage refine: the last walk's answers become surfaces, and its numbers a summary and a page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon4d.scene.depth import Provenance

if TYPE_CHECKING:
    from recon4d.refine.frame import State, Style
    from recon4d.scene.mesh import DepthMesh
    from recon4d.scene.trajectory import Trajectory
    from recon4d.stages.refine_walks import Answer, Walks
    from recon4d.workspace import Workspace

CURVES = "curves"  # folder in the part: the energies of each frame
WHEN = ("before", "after")
SHOWN = 3  # frames on the page
UNKNOWN_STRUCTURE = 0.02  # relative error of structure from motion, where no points were held out to tell


@dataclass(frozen=True)
class Made:
    """A frame that is done."""

    mesh: DepthMesh
    curve: dict[str, object]  # for the summary and the page
    unlike: list[np.ndarray]  # (h, w) 1 - ZNCC before and after, NaN where not seen; of the frames on the page


class Finish:
    """The last walk, whose answers become the surfaces of the stage."""

    def __init__(self, workspace: Workspace, trajectory: Trajectory, walks: Walks, style: Style, part: Path) -> None:
        self._workspace, self._trajectory, self._walks, self._part = workspace, trajectory, walks, part
        self._style = style
        self._shown = np.unique(np.linspace(0, len(trajectory) - 1, SHOWN).round().astype(int)).tolist()
        options = workspace.need("mesh", "refine").options
        self._cuts = options["max_ratio"], options["min_angle_deg"]
        held = workspace.need("align", "refine").summary.get("held_out")
        self._structure = 1.4826 * held["median"] if held else UNKNOWN_STRUCTURE

    def made(self, i: int, answer: Answer) -> Made:
        """The refined surface of a frame, from its answer in the last walk."""
        before, after = self._before(i), self._surface(i, answer)
        states = self._walks.before_and_after(answer)
        unlike = [np.where(s.alike != 0, 1 - s.alike, np.nan).astype(np.float16) for s in states]
        return Made(after, _curve(before, after, answer, states), unlike if i in self._shown else [])

    def write(self, name: str, made: Made) -> None:
        """One file for the surface, one for the numbers."""
        from recon4d.formats.arrays import write_arrays, write_depth_mesh

        if made.unlike:
            write_arrays(self._part / CURVES / f"{name}.npz", before=made.unlike[0], after=made.unlike[1])
        (self._part / CURVES / f"{name}.json").write_text(json.dumps(made.curve), encoding="utf-8")
        write_depth_mesh(self._part / f"{name}.npz", made.mesh)

    def _before(self, i: int) -> DepthMesh:
        return self._workspace.depth_mesh(self._trajectory.names[i], "mesh")

    def _surface(self, i: int, answer: Answer) -> DepthMesh:
        from recon4d.geometry.doubt import doubted_sigma
        from recon4d.refine.posterior import spread_sigma
        from recon4d.stages.refine_result import nearer, refined_mesh

        name = self._trajectory.names[i]
        spread = spread_sigma(answer.refined, self._style.level(answer.found.x.shape))
        usual = np.hypot(spread, self._structure)
        origin = np.full(usual.shape, Provenance.MEASURED, dtype=np.uint8)
        sigma = doubted_sigma(usual, answer.found.chance, origin).astype(np.float32)
        sigma = np.where(answer.problem.static > 0, sigma, np.maximum(sigma, self._walks.prior(i).sigma))
        pictures = self._workspace.picture(name), self._walks.pictures.posed(i)
        prior, view = self._walks.prior(i), self._trajectory[name]
        before = nearer(self._before(i), self._walks.depth_ratio(i))
        return refined_mesh(before, view, pictures, prior, answer, sigma, self._cuts)

    def summary(self) -> dict[str, object]:
        """Key numbers of the clip, and the energies written to `energies.csv`."""
        names = self._trajectory.names
        curves = [json.loads((self._part / CURVES / f"{name}.json").read_text(encoding="utf-8")) for name in names]
        terms = list(curves[0]["before"])
        with open(self._part / "energies.csv", "w", encoding="utf-8") as file:
            file.write("name," + ",".join(f"{term}_{when}" for when in WHEN for term in terms) + "\n")
            for name, curve in zip(names, curves):
                file.write(f"{name}," + ",".join(f"{curve[when][term]:.6g}" for when in WHEN for term in terms) + "\n")
        totals = {when: {term: sum(curve[when][term] for curve in curves) for term in terms} for when in WHEN}
        self._write_page(curves, terms)
        return {
            "frames": len(names),
            "refined": sum(curve["views"] > 0 for curve in curves),
            "energy_before": totals["before"],
            "energy_after": totals["after"],
            "energy_left": sum(totals["after"].values()) / max(sum(totals["before"].values()), 1e-12),
            **{key: float(np.median([curve[key] for curve in curves])) for key in ("moved_median", "sigma_median")},
            "alike": {when: float(np.mean([curve["alike"][when] for curve in curves])) for when in WHEN},
            "agreeing_views": float(np.mean([curve["agreeing"] for curve in curves])),
            "measured": float(np.mean([curve["measured"] for curve in curves])),
            "moving": float(np.mean([curve["moving"] for curve in curves])),
        }

    def _write_page(self, curves: list[dict], terms: list[str]) -> None:
        """``refine.png``: some frames before and after, and how the energy fell."""
        from recon4d.formats.arrays import read_arrays, read_depth_mesh
        from recon4d.view.refine_page import RefineRow, write_refine_page

        rows = []
        for i in self._shown:
            name = self._trajectory.names[i]
            unlike = read_arrays(self._part / CURVES / f"{name}.npz")
            after = read_depth_mesh(self._part / f"{name}.npz")
            picture, camera = self._workspace.picture(name), self._trajectory[name].camera
            rows.append(RefineRow(name, picture, camera, self._before(i), after, unlike["before"], unlike["after"]))
        longest = max(len(curve["steps"]) for curve in curves)
        # A frame that is done keeps its energy while others go on.
        padded = [curve["steps"] + [curve["steps"][-1]] * (longest - len(curve["steps"])) for curve in curves]
        mean = {term: np.mean([[step[term] for step in steps] for steps in padded], axis=0) for term in terms}
        pixels = rows[0].unlike_before.size
        gone = [
            100 * (1 - sum(c["after"][t] for c in curves) / max(sum(c["before"][t] for c in curves), 1e-12))
            for t in terms
        ]
        told = "energy gone: " + "   ".join(f"{share:.0f} % {term}" for share, term in zip(gone, terms) if share > 0)
        title = self._workspace.title
        write_refine_page(self._part / "refine.png", title, told, rows, {t: v / pixels for t, v in mean.items()})


def _curve(before: DepthMesh, after: DepthMesh, answer: Answer, states: tuple[State, State]) -> dict[str, object]:
    """Numbers of a frame."""
    surface, prior = after.surface, before.surface.depth
    both = surface.valid & before.surface.valid
    moved = np.abs(np.log(surface.depth[both] / prior[both])) if both.any() else np.zeros(1)
    sigma = (surface.sigma / np.where(surface.valid, surface.depth, 1))[surface.valid]
    alike = [state.alike[state.alike != 0] for state in states]
    return {
        "views": len(answer.problem.views),
        **{when: state.energies for when, state in zip(WHEN, states)},
        "steps": answer.refined.energies,
        "moved_median": float(np.median(moved)),
        "sigma_median": float(np.median(sigma)) if len(sigma) else 0.0,
        "alike": {when: float(values.mean()) if len(values) else 0.0 for when, values in zip(WHEN, alike)},
        "agreeing": float(answer.refined.agreeing.mean()),
        "measured": float((surface.provenance[surface.valid] == Provenance.MEASURED).mean()) if len(sigma) else 0.0,
        "moving": float((answer.problem.static == 0).mean()),
    }
