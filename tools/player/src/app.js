// The scene and its state: what is shown, how, and at which time. The controls call its methods and read `state`.
import { FrameStore } from "./store.js";
import { Clock } from "./clock.js";
import { Cloud, LOOKS, pick, sharedUniforms } from "./points.js";
import { Frustum, Grid, Path } from "./extras.js";
import { Measure } from "./measure.js";
import { Navigator } from "./navigate.js";
import { Pictures } from "./pictures.js";
import { Stage } from "./stage.js";
import { readCloud } from "./data.js";

export const VIDEOS = ["off", "inset", "beside", "over"];
export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const PICK_PX = 14;

export class App {
  constructor(description, elements, tell) {
    this.description = description;
    this.elements = elements;
    this.tell = tell; // something failed
    this.frames = description.names.length;
    this.state = {
      mode: "orbit", video: description.pictures ? "inset" : "off", theme: "dark", size: 1, threshold: 0, origins: 31,
      look: "picture", static: true, moving: true, path: true, frustum: true, measuring: false,
      grid: true, gridInCamera: false, // what is seen through the camera is the frame, without additions
    };
    this.changed = []; // called when the state or the frame has changed
    this.stage = new Stage(elements.canvas, description, () => {
      return Math.max(0, elements.canvas.getBoundingClientRect().bottom - elements.bar.getBoundingClientRect().top + 8);
    });
    this.clock = new Clock(description.starts_s);
    this.shared = sharedUniforms(description);
    this.navigator = new Navigator(this.stage, description);
    this.measure = new Measure(elements.marks, this.stage, description.unit);
    this.statics = [];
    this.shownFrame = -1;
    const small = navigator.deviceMemory !== undefined && navigator.deviceMemory <= 4;
    this.store = new FrameStore(this.frames, small ? 2e6 : 8e6, (cloud) => new Cloud(cloud, this.shared));
    this.pictures = description.pictures
      ? new Pictures(elements.picture, this.frames, () => this.pictureChanged())
      : null;
    this.addExtras();
    this.stage.before.push(() => this.prepare());
    this.stage.drawn.push(() => this.placeWipe());
    this.ticking = false;
    elements.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // the browser may give it back
      this.pause();
      this.tell("The graphics card was taken away from this page for a moment. Reload the page if it stays empty.");
    });
    elements.canvas.addEventListener("webglcontextrestored", () => {
      this.tell("");
      this.stage.ask();
    });
  }

  addExtras() {
    this.grid = new Grid(this.description);
    this.path = new Path(this.description);
    this.frustum = new Frustum(this.description, this.pictures && this.elements.picture);
    this.stage.scene.add(this.grid.object, this.path.object, this.frustum.object);
  }

  /** The first picture, then the rest of the background. */
  async open() {
    await this.addStatic(0);
    await this.show(0);
    this.apply();
    this.stage.draw();
    performance.mark("first picture");
    for (let part = 1; part < this.description.static_parts; part++) await this.addStatic(part);
  }

  async addStatic(part) {
    const cloud = new Cloud(await readCloud(`s${part}`), this.shared);
    this.statics.push(cloud);
    this.stage.scene.add(cloud.object);
    // Fewer points must be larger to cover the same surface.
    const there = this.statics.reduce((sum, { data }) => sum + data.count, 0);
    for (const each of this.statics) each.grow.value = Math.sqrt(this.description.static_points / Math.max(there, 1));
    this.apply();
  }

  // -- time ----------------------------------------------------------------------------------------------------------

  /** Show a frame as soon as it is there; a later call wins. */
  async show(frame) {
    const turn = (this.asked = (this.asked ?? 0) + 1);
    this.pictures?.show(frame).catch((error) => this.fail(error));
    try {
      const cloud = this.store.peek(frame) ?? (await this.store.get(frame));
      if (turn < (this.drawnTurn ?? 0)) return; // one that was asked for after it is there already
      this.drawnTurn = turn;
      this.put(frame, cloud);
    } catch (error) {
      this.fail(error);
    }
  }

  put(frame, cloud) {
    if (this.current !== cloud) this.current?.object.removeFromParent();
    this.current = cloud;
    this.stage.scene.add(cloud.object);
    this.shownFrame = frame;
    this.frustum.show(frame);
    this.navigator.follow(frame);
    this.store.attend(frame, 1, this.clock.loop);
    this.apply();
  }

  fail(error) {
    this.pause();
    this.tell(error);
  }

  seek(frame) {
    this.clock.seek(frame);
    this.show(this.clock.frame);
    this.notify();
  }

  stepFrame(by) {
    this.pause();
    const next = this.clock.frame + by;
    this.seek(this.clock.loop ? (next + this.frames) % this.frames : next);
  }

  play() {
    this.clock.play();
    this.notify();
    this.tick();
  }

  pause() {
    this.clock.pause();
    this.notify();
  }

  togglePlay() {
    if (this.clock.playing) this.pause();
    else this.play();
  }

  setSpeed(speed) {
    this.clock.speed = speed;
    this.notify();
  }

  setLoop(loop) {
    this.clock.loop = loop;
    this.notify();
  }

  /** Runs while something moves by itself: time, or the view. */
  tick() {
    if (this.ticking) return;
    this.ticking = true;
    let before = performance.now();
    const go = (now) => {
      const seconds = Math.max(0, now - before) / 1000;
      before = now;
      const wasPlaying = this.clock.playing;
      if (wasPlaying) this.pass(seconds);
      const moves = this.navigator.step(seconds);
      if (moves) this.stage.ask();
      if (wasPlaying || moves) requestAnimationFrame(go);
      else this.ticking = false;
    };
    requestAnimationFrame(go);
  }

  pass(seconds) {
    const before = this.clock.frame;
    if (this.shownFrame !== before && !this.store.peek(before)) return; // time waits for a frame that is not read yet
    this.clock.advance(seconds);
    const now = this.clock.frame;
    if (now !== before) this.show(now);
    this.notify();
  }

  // -- what is shown -------------------------------------------------------------------------------------------------

  set(changes) {
    if (changes.mode && changes.mode !== "camera" && this.state.video === "over") changes.video ??= "inset";
    if (changes.video === "over" && this.state.mode !== "camera") changes.mode = "camera";
    Object.assign(this.state, changes);
    if (changes.mode) this.navigator.setMode(changes.mode);
    this.apply();
  }

  get gridShown() {
    return this.state.mode === "camera" ? this.state.gridInCamera : this.state.grid;
  }

  setGrid(on) {
    this.set(this.state.mode === "camera" ? { gridInCamera: on } : { grid: on });
  }

  setOrigin(origin, on) {
    const bit = 1 << origin;
    this.set({ origins: on ? this.state.origins | bit : this.state.origins & ~bit });
  }

  apply() {
    const { state, shared } = this;
    shared.size.value = state.size;
    shared.threshold.value = state.threshold;
    shared.origins.value = state.origins;
    shared.look.value = LOOKS.indexOf(state.look);
    for (const cloud of this.statics) cloud.object.visible = state.static && cloud.data.count > 0;
    if (this.current) this.current.object.visible = state.moving && this.current.data.count > 0;
    const outside = state.mode !== "camera"; // from inside the camera they would only be in the way
    this.path.object.visible = state.path && outside;
    this.frustum.object.visible = state.frustum && outside;
    this.grid.object.visible = this.gridShown;
    this.stage.theme = state.theme;
    this.grid.setTheme(state.theme);
    this.stage.ask();
    this.notify();
  }

  notify() {
    for (const each of this.changed) each();
  }

  prepare() {
    this.shared.pixels.value = this.stage.pixelsAtOne;
    const ratio = this.stage.renderer.getPixelRatio();
    this.shared.least.value = 1.5 * ratio;
    this.shared.most.value = 48 * ratio;
  }

  pictureChanged() {
    this.frustum.refresh();
    this.drawWipe();
    this.stage.ask();
  }

  // -- the video over the scene --------------------------------------------------------------------------------------

  drawWipe() {
    if (this.state.video !== "over" || !this.pictures || this.pictures.shown < 0) return;
    const { picture, wipePicture } = this.elements;
    wipePicture.width = picture.width;
    wipePicture.height = picture.height;
    wipePicture.getContext("2d").drawImage(picture, 0, 0);
    this.wiped = true;
  }

  placeWipe() {
    const { wipe, wipePicture, wipeEdge, wipeRange } = this.elements;
    const over = this.state.video === "over" && this.state.mode === "camera";
    wipe.hidden = wipeRange.hidden = !over;
    if (!over) return (this.wiped = false);
    if (!this.wiped) this.drawWipe();
    const [left, top, width, height] = this.stage.area;
    const px = (element, values) => {
      for (const [name, value] of Object.entries(values)) element.style[name] = `${value}px`;
    };
    px(wipe, { left, top, width, height });
    px(wipeRange, { left: left - 18, width: width + 36, top: top + height / 2 - 22 });
    const share = Number(wipeRange.value);
    wipePicture.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
    wipeEdge.style.left = `${share}%`;
  }

  // -- picking -------------------------------------------------------------------------------------------------------

  pickAt(clientX, clientY) {
    const box = this.elements.canvas.getBoundingClientRect();
    const { x, y, radius } = this.stage.toClip(clientX - box.left, clientY - box.top, PICK_PX);
    if (Math.abs(x) > 1 || Math.abs(y) > 1) return null; // beside the frame
    const shown = [...this.statics, this.current].filter((cloud) => cloud?.object.visible);
    return pick(shown.map(({ data }) => data), this.stage.clipFromWorld(), x, y, radius, this.state);
  }

  get pointsShown() {
    return [...this.statics, this.current].reduce((sum, cloud) => sum + (cloud?.object.visible ? cloud.data.count : 0), 0);
  }
}
