"""Playing by the true times of the frames."""

from __future__ import annotations

import numpy as np


class FrameClock:
    """Which frame is due: a place in time that goes on while it plays, and begins anew behind the last frame."""

    def __init__(self, timestamps_s: np.ndarray) -> None:
        """``timestamps_s`` (N,) rising; the last frame lasts as long as the median one."""
        self.starts_s = np.asarray(timestamps_s, dtype=np.float64) - timestamps_s[0]
        gaps = np.diff(self.starts_s)
        self.length_s = float(self.starts_s[-1] + (np.median(gaps) if len(gaps) else 1.0))
        self._at_s, self._since_s = 0.0, None  # place in the clip; when it was there, None while it stands
        self.speed = 1.0

    @property
    def playing(self) -> bool:
        return self._since_s is not None

    def seek(self, frame: int, now_s: float) -> None:
        """Go to the beginning of a frame, playing or not."""
        self._at_s = float(self.starts_s[frame])
        self._since_s = now_s if self.playing else None

    def play(self, now_s: float) -> None:
        self._since_s = now_s

    def pause(self, now_s: float) -> None:
        self._at_s, self._since_s = self._place(now_s), None

    def set_speed(self, speed: float, now_s: float) -> None:
        """Clip seconds per second, from now on."""
        self._at_s, self.speed = self._place(now_s), speed
        self._since_s = now_s if self.playing else None

    def _place(self, now_s: float) -> float:
        gone = 0.0 if self._since_s is None else self.speed * (now_s - self._since_s)
        return (self._at_s + gone) % self.length_s

    def frame(self, now_s: float) -> int:
        """The frame that is shown now; frames are left out where there is no time for them."""
        return max(0, int(np.searchsorted(self.starts_s, self._place(now_s) + 1e-9, side="right")) - 1)

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next frame is due."""
        place = self._place(now_s)
        later = self.starts_s[self.starts_s > place + 1e-9]
        return float((later[0] if len(later) else self.length_s) - place) / self.speed
