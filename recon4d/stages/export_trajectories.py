"""Export of the camera's path alone."""

from __future__ import annotations

from recon4d.stages.export_delivery import Delivery


def write_tum(delivery: Delivery) -> None:
    """`tum/trajectory.tum`: camera-to-world, ``t tx ty tz qx qy qz qw``."""
    from recon4d.formats import trajectories

    path = delivery.trajectory
    trajectories.write_tum(delivery.folder("tum") / "trajectory.tum", path.timestamps_s, path.cam_from_world.inverse())


def write_kitti(delivery: Delivery) -> None:
    """`kitti/poses.txt`: camera-to-world, 3x4 row by row, and `kitti/times.txt`: the seconds TUM files have."""
    from recon4d.formats import trajectories

    root, path = delivery.folder("kitti"), delivery.trajectory
    trajectories.write_kitti(root / "poses.txt", path.cam_from_world.inverse())
    trajectories.write_times(root / "times.txt", path.timestamps_s)
