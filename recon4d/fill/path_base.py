"""What camera paths start from: the recorded camera at every moment of the output, what it looks at, and up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recon4d.errors import OptionsError
from recon4d.geometry.pose_splines import poses_between, steadied
from recon4d.scene.camera import Camera
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3

CENTRAL = 1 / 3  # of the picture's width and height: the region whose median depth is looked at


@dataclass(frozen=True)
class CameraPath:
    """A camera and a moment of the clip for each picture of the output."""

    world_from_cam: Rigid3  # batch (N,)
    cameras: tuple[Camera, ...]  # N
    times: np.ndarray  # (N,) float64, position in the clip's frames: 2.5 lies between the third and the fourth

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", np.asarray(self.times, dtype=np.float64))
        if not len(self.world_from_cam) == len(self.cameras) == len(self.times):
            counts = len(self.world_from_cam), len(self.cameras), len(self.times)
            raise ValueError(f"CameraPath: poses, cameras and times differ in number: {counts}")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def centres(self) -> np.ndarray:
        """(N, 3) camera centres, world frame."""
        return self.world_from_cam.translation

    def depth_of(self, points: np.ndarray) -> np.ndarray:
        """(N,) z of points (N, 3), world frame, each before the camera of its own picture, scene units."""
        return np.einsum("ni,ni->n", points - self.centres, self.world_from_cam.rotation[:, :, 2])


@dataclass(frozen=True)
class PathBase:
    """The reference camera of each picture of the output: paths say how to leave it."""

    world_from_cam: Rigid3  # batch (N,): the same N times, or along the recording
    cameras: tuple[Camera, ...]  # N
    times: np.ndarray  # (N,), see `CameraPath`
    focus_depth: np.ndarray  # (N,) z of the point that is looked at, scene units
    up: np.ndarray  # (3,) unit vector, world frame
    recorded: Rigid3  # batch (M,): the clip's own cameras, world_from_cam
    depth: np.ndarray | None = None  # (h, w) z of the reference frame, 0 unknown, for paths that look where to go

    def __len__(self) -> int:
        return len(self.times)

    @property
    def focus(self) -> np.ndarray:
        """(N, 3) points on the optical axes that are looked at, world frame."""
        return self.world_from_cam.translation + self.focus_depth[:, None] * self.axis(2)

    def axis(self, k: int) -> np.ndarray:
        """(N, 3) the cameras' axis ``k`` (0 right, 1 down, 2 forward), world frame."""
        return self.world_from_cam.rotation[:, :, k]


def path_base(
    trajectory: Trajectory,
    times: np.ndarray,
    focus_depth: float | np.ndarray,
    reference: int | None = None,
    up: np.ndarray | None = None,
    steady: float = 0.0,
) -> PathBase:
    """What a path over ``times`` (N,) starts from.

    Args:
        times: positions in the clip's frames, see `clip_times`.
        focus_depth: z of what is looked at, scene units, one or (N,), see `central_depth`.
        reference: the frame whose camera the path leaves; None: the recorded camera of each moment.
        up: (3,) world frame; None: the mean upward axis of the cameras.
        steady: frames (sigma of a Gaussian) over which the recorded camera's shake is evened out; 0 keeps it.

    Raises:
        OptionsError: the reference frame is not one of the clip, or nothing is looked at.
    """
    count, recorded = len(trajectory), trajectory.cam_from_world.inverse()
    times = np.asarray(times, dtype=np.float64)
    if reference is not None and not 0 <= reference < count:
        raise OptionsError(f"camera path: reference frame {reference} is not one of the clip's, 0 to {count - 1} are")
    focus_depth = np.broadcast_to(np.asarray(focus_depth, dtype=np.float64), len(times))
    if not (np.isfinite(focus_depth) & (focus_depth > 0)).all():
        raise OptionsError(f"camera path: a focus distance is {focus_depth.min()}, numbers above 0 are needed")
    course = steadied(recorded, steady)
    moments = times if reference is None else np.full(len(times), float(reference))
    nearest = np.clip(np.round(moments), 0, count - 1).astype(int)
    if up is None:
        up = -recorded.rotation[:, :, 1].sum(axis=0)
        up = up if np.linalg.norm(up) > 1e-9 else np.array([0.0, -1.0, 0.0])
    up = np.asarray(up, dtype=np.float64)
    return PathBase(
        world_from_cam=poses_between(np.arange(count), course, moments),
        cameras=tuple(trajectory.cameras[i] for i in nearest),
        times=times,
        focus_depth=focus_depth,
        up=up / np.linalg.norm(up),
        recorded=recorded,
    )


def looking(base: PathBase, depth: np.ndarray) -> PathBase:
    """The same with the z-depth (h, w) of the reference frame, 0 where it is not known: autopilot needs it."""
    return replace(base, depth=np.asarray(depth, dtype=np.float64))


def central_depth(depth: np.ndarray, valid: np.ndarray) -> float:
    """Where the central rays meet the scene: median z of the picture's central ninth, or of all where that is empty.

    Raises OptionsError where no pixel has depth.
    """
    height, width = depth.shape
    top, left = round(height * (1 - CENTRAL) / 2), round(width * (1 - CENTRAL) / 2)
    centre = np.s_[top : height - top, left : width - left]
    for z in (depth[centre][valid[centre]], depth[valid]):
        if len(z):
            return float(np.median(z))
    raise OptionsError("camera path: the reference frame has no depth to look at, choose another reference frame")


def follow_times(clip_frames: int, frames: int) -> np.ndarray:
    """(frames,) the whole clip, evenly."""
    return np.linspace(0.0, clip_frames - 1.0, frames) if frames > 1 else np.zeros(frames)


def freeze_times(clip_frames: int, frames: int, at: float | None = None) -> np.ndarray:
    """(frames,) one moment (frame number, fractions allowed; None: the middle frame)."""
    at = (clip_frames - 1) // 2 if at is None else at
    if not 0 <= at <= clip_frames - 1:
        raise OptionsError(f"camera path: moment {at:g} is not in the clip, 0 to {clip_frames - 1} are")
    return np.full(frames, float(at))


def slowmo_times(clip_frames: int, factor: float, frames: int | None = None, start: float = 0.0) -> np.ndarray:
    """Moments ``1 / factor`` apart from ``start`` on; as many as the clip has, or ``frames``.

    Raises OptionsError where the clip ends before.
    """
    if not factor > 0:
        raise OptionsError(f"camera path: the slow motion's factor is {factor:g}, a number above 0 is needed")
    most = int(np.floor((clip_frames - 1 - start) * factor + 1e-9)) + 1
    if not 0 <= start <= clip_frames - 1 or (frames or 1) > most:
        raise OptionsError(
            f"camera path: slow motion by {factor:g} from frame {start:g} has {max(most, 0)} pictures, {frames} are "
            "wanted; start earlier, ask for fewer frames or a larger factor"
        )
    return start + np.arange(frames or most) / factor
