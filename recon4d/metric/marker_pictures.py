"""Finding square markers (ArUco, AprilTag) in pictures, with corners good to a few hundredths of a pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Names of OpenCV's dictionaries, in small letters. Those that are tried without a name hold all smaller ones of a kind.
TRIED = ("4x4_1000", "5x5_1000", "6x6_1000", "7x7_1000", "aruco_original", "aruco_mip_36h12")
TRIED += ("apriltag_16h5", "apriltag_25h9", "apriltag_36h10", "apriltag_36h11")
DICTIONARIES = TRIED + tuple(f"{bits}x{bits}_{count}" for bits in (4, 5, 6, 7) for count in (50, 100, 250))
EDGE_ROUNDS = 2  # of the refinement: the second starts where the first ends, so it may look more closely
EDGE_PART = (0.12, 0.88)  # of an edge that is used: blur rounds the corners
STEP_PX = 0.25

MarkerFinder = Callable[[np.ndarray], list[tuple[int, np.ndarray]]]


def marker_finder(dictionary: str) -> MarkerFinder:
    """Function from a grey picture (H, W) uint8 to the markers in it: number and corners (4, 2) in pixels.

    Corners are those of the black square, clockwise from the top left as printed, first pixel centre (0.5, 0.5). A
    number that is there twice is left out, since it cannot be told which is which.
    """
    import cv2

    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(
        cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{dictionary.upper()}")), parameters
    )

    def find(grey: np.ndarray) -> list[tuple[int, np.ndarray]]:
        corners, numbers, _ = detector.detectMarkers(grey)
        numbers = [] if numbers is None else np.ravel(numbers).tolist()
        # OpenCV counts pixel centres 0, 1, 2; ours are 0.5, 1.5, 2.5.
        found = [(n, np.reshape(c, (4, 2)).astype(np.float64) + 0.5) for n, c in zip(numbers, corners)]
        return [(n, refined_corners(grey, c)) for n, c in found if numbers.count(n) == 1]

    return find


def refined_corners(grey: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Corners (4, 2) where lines through the edges of a black square meet.

    OpenCV refines each corner by itself, and blur rounds corners: on rendered pictures its squares of 64 px come out
    0.4 px too small at a blur of 0.8 px. Blur leaves straight edges where they are.
    """
    for _ in range(EDGE_ROUNDS):
        middle = corners.mean(axis=0)
        lines = [_edge(grey, corners[k], corners[(k + 1) % 4], middle) for k in range(4)]
        meeting = [np.cross(lines[k - 1], lines[k]) for k in range(4)]
        if not all(abs(point[2]) > 1e-9 for point in meeting):
            return corners  # two neighbouring edges became parallel: there was no edge to follow
        refined = np.array([point[:2] / point[2] for point in meeting])
        if np.abs(refined - corners).max() > 0.25 * np.linalg.norm(corners[2] - corners[0]):
            return corners
        corners = refined
    return corners


def _edge(grey: np.ndarray, start: np.ndarray, end: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(3,) homogeneous line along the change from dark to bright, robustly fitted (Cauchy) near start - end."""
    import cv2

    length = float(np.linalg.norm(end - start))
    along = (end - start) / length
    out = np.array([along[1], -along[0]])
    out = -out if out @ (inside - start) > 0 else out
    reach = min(max(2.0, 0.08 * length), 6.0)  # 0.08: half a cell of the largest markers; the inner cells stay outside
    share = np.linspace(*EDGE_PART, max(int(length), 8))
    offset = np.arange(-reach, reach + STEP_PX / 2, STEP_PX)
    at = start + share[:, None, None] * (end - start) + offset[None, :, None] * out - 0.5  # OpenCV's pixel centres
    values = cv2.remap(
        grey, *np.moveaxis(at.astype(np.float32), 2, 0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    rise = np.clip(np.gradient(values.astype(np.float64), axis=1), 0, None) ** 2
    strength = rise.sum(axis=1)
    crossing = (rise @ offset) / np.maximum(strength, 1e-9)
    seen = (strength > 0.05 * np.median(strength)).astype(float)
    rows, weights = np.stack([np.ones_like(share), share], axis=1), seen
    for _ in range(5):
        root = np.sqrt(weights)
        (begin, slope), *_ = np.linalg.lstsq(rows * root[:, None], crossing * root, rcond=None)
        far = np.abs(crossing - begin - slope * share)
        weights = seen / (1 + (far / (2.385 * max(1.4826 * float(np.median(far)), 0.02))) ** 2)
    return np.cross([*(start + begin * out), 1.0], [*(end + (begin + slope) * out), 1.0])
