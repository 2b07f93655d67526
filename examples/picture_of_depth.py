"""A picture of the depth of one frame, and of where its surface is cut.

python examples/picture_of_depth.py scene 000000 depth.png
"""

import sys
from pathlib import Path

import numpy as np

from recon4d import Workspace
from recon4d.formats.pictures import write_picture
from recon4d.view.depth_colors import colorize_depth


def main(scene: str, name: str, out: str) -> None:
    workspace = Workspace(scene)
    mesh = workspace.depth_mesh(name)
    depth, valid = mesh.surface.depth, mesh.surface.valid
    near, far = np.percentile(depth[valid], [2, 98])
    colors = colorize_depth(depth, valid, near, far)
    cut = colors.copy()
    cut[~(mesh.join_right & mesh.join_down)] = 0
    write_picture(Path(out), np.hstack([workspace.picture(name), colors, cut]))
    print(f"{out}: the frame, its depth from {near:.2f} to {far:.2f} scene units, and where its surface is cut")


if __name__ == "__main__":
    main(*sys.argv[1:])
