// The time of the clip. Frames have the times at which they were taken, which need not be evenly spaced.

export class Clock {
  /** starts: seconds of the frames from the first, rising. */
  constructor(starts) {
    this.starts = starts;
    const gaps = starts.slice(1).map((start, i) => start - starts[i]).sort((a, b) => a - b);
    this.last = gaps.length ? gaps[gaps.length >> 1] : 0; // the last frame stays as long as others usually do
    this.duration = starts[starts.length - 1] + this.last;
    this.time = 0;
    this.speed = 1;
    this.loop = true;
    this.playing = false;
  }

  /** The frame shown at a time: the last one that has begun. */
  frameAt(time) {
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= time + 1e-9) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  get frame() {
    return this.frameAt(this.time);
  }

  nearest(time) {
    const frame = this.frameAt(time);
    const next = Math.min(frame + 1, this.starts.length - 1);
    return this.starts[next] - time < time - this.starts[frame] ? next : frame;
  }

  seek(frame) {
    this.time = this.starts[Math.max(0, Math.min(frame, this.starts.length - 1))];
  }

  play() {
    if (this.starts.length < 2) return;
    if (this.time >= this.starts[this.starts.length - 1] && !this.loop) this.time = 0;
    this.playing = true;
  }

  pause() {
    this.playing = false;
  }

  /** Let so many seconds of real time pass. */
  advance(seconds) {
    if (!this.playing) return;
    this.time += seconds * this.speed;
    if (this.time < this.duration) return;
    if (this.loop) this.time %= this.duration;
    else {
      this.time = this.starts[this.starts.length - 1];
      this.playing = false;
    }
  }
}
