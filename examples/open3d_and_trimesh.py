"""Hand results to open3d and trimesh: measure the background, save its mesh as OBJ.

python examples/open3d_and_trimesh.py scene background.obj
"""

import sys

from recon4d import Workspace
from recon4d.formats.interop import to_open3d_cloud, to_trimesh


def main(scene: str, out: str) -> None:
    workspace = Workspace(scene)
    cloud = to_open3d_cloud(workspace.static_cloud())
    box = cloud.get_oriented_bounding_box()
    print(f"the background is {' x '.join(f'{side:.2f}' for side in box.extent)} scene units large")
    mesh = to_trimesh(workspace.static_mesh())
    mesh.export(out)
    print(f"{out}: {len(mesh.faces)} triangles, {mesh.area:.2f} square units")


if __name__ == "__main__":
    main(*sys.argv[1:])
