// Frames of the video: decoded when they are wanted, a few ahead, onto one canvas.
import { textOf } from "./data.js";

const KEPT = 12;

export class Pictures {
  /** canvas: what the picture of the frame is drawn on; changed: called after that. */
  constructor(canvas, frames, changed) {
    Object.assign(this, { canvas, frames, changed, wanted: -1, shown: -1, asked: 0, drawn: 0 });
    this.kept = new Map(); // frame -> promise of an image
  }

  image(frame) {
    let found = this.kept.get(frame);
    if (!found) {
      found = textOf(`p${frame}`).then(async (text) => {
        const image = new Image();
        image.src = `data:image/jpeg;base64,${text}`;
        await image.decode();
        return image;
      });
    }
    this.kept.delete(frame);
    this.kept.set(frame, found);
    for (const oldest of this.kept.keys()) {
      if (this.kept.size <= KEPT) break;
      this.kept.delete(oldest);
    }
    return found;
  }

  async show(frame) {
    if (frame === this.wanted) return;
    this.wanted = frame;
    const turn = ++this.asked;
    const image = await this.image(frame);
    for (let k = 1; k <= 3; k++) this.image((frame + k) % this.frames).catch(() => {}); // told when it is to be shown
    if (turn < this.drawn) return; // one that was asked for after it is there already
    this.drawn = turn;
    if (this.canvas.width !== image.width || this.canvas.height !== image.height) {
      this.canvas.width = image.width;
      this.canvas.height = image.height;
    }
    this.canvas.getContext("2d").drawImage(image, 0, 0);
    this.shown = frame;
    this.changed();
  }
}
