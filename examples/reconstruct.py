"""Reconstruct a clip from Python and look at what came out.

python examples/reconstruct.py clip.mp4 depth.npz scene
"""

import sys
from pathlib import Path

import recon4d


def main(clip: str, depth: str, out: str) -> None:
    options = recon4d.Options(
        frames=recon4d.FramesOptions(max_frames=60),
        depth=recon4d.DepthOptions(path=Path(depth)),
    )
    workspace = recon4d.run(clip, out, options=options)
    scene = workspace.scene()
    print(f"{len(scene.names)} frames over {scene.timestamps_s[-1]:.1f} s at {scene.fps:.0f} frames per second")
    print(
        f"background: {len(scene.static)} points; one unit is {scene.metres_per_unit or 'an unknown number of'} metres"
    )
    for name in scene.names[:3]:
        moving = scene.moving(name)
        centre = scene.trajectory[name].cam_from_world.inverse().translation
        print(f"frame {name}: {len(moving)} moving points, camera at {centre.round(3)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
