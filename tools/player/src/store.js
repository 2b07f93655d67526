// Clouds of frames: unpacked when they are wanted, those ahead of the one shown before they are, and dropped again.
import { readCloud } from "./data.js";

const AHEAD = 4;
const FEWEST_KEPT = AHEAD + 3;

export class FrameStore {
  /** frames: how many there are; mostPoints: bound on what is kept unpacked; build: cloud -> thing with `dispose()`. */
  constructor(frames, mostPoints, build) {
    Object.assign(this, { frames, mostPoints, build });
    this.kept = new Map(); // frame -> { thing, count }, least recently used first
    this.underWay = new Map();
  }

  /** What is there now, without waiting. */
  peek(frame) {
    const found = this.kept.get(frame);
    if (!found) return null;
    this.kept.delete(frame);
    this.kept.set(frame, found);
    return found.thing;
  }

  async get(frame) {
    const found = this.peek(frame);
    if (found) return found;
    if (!this.underWay.has(frame)) {
      this.underWay.set(frame, this.unpack(frame).finally(() => this.underWay.delete(frame)));
    }
    return this.underWay.get(frame);
  }

  async unpack(frame) {
    const cloud = await readCloud(`m${frame}`);
    const thing = this.build(cloud);
    this.kept.set(frame, { thing, count: cloud.count });
    return thing;
  }

  /** Begin with the frames that come next, and drop what was not used for longest. */
  attend(frame, direction, loop) {
    const near = new Set([frame]);
    for (let k = 1; k <= Math.min(AHEAD, this.frames - 1); k++) {
      let next = frame + direction * k;
      if (loop) next = (next + this.frames) % this.frames;
      if (next < 0 || next >= this.frames) break;
      near.add(next);
      this.get(next).catch(() => {}); // it is told when that frame is to be shown
    }
    this.drop(near);
  }

  drop(near) {
    let points = 0;
    for (const { count } of this.kept.values()) points += count;
    for (const [frame, { thing, count }] of this.kept) {
      if (points <= this.mostPoints || this.kept.size <= FEWEST_KEPT) return;
      if (near.has(frame)) continue;
      thing.dispose();
      this.kept.delete(frame);
      points -= count;
    }
  }
}
