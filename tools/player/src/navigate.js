// Three ways to look: around the scene (orbit), through it (fly), and as the video did (camera).
import { Quaternion, Vector3 } from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { centreOf, forwardOf, takePose } from "./stage.js";

export const MODES = ["orbit", "fly", "camera"];
const MOVES = {
  KeyW: [0, 0, 1], ArrowUp: [0, 0, 1], KeyS: [0, 0, -1], ArrowDown: [0, 0, -1],
  KeyA: [-1, 0, 0], ArrowLeft: [-1, 0, 0], KeyD: [1, 0, 0], ArrowRight: [1, 0, 0],
  KeyE: [0, 1, 0], KeyQ: [0, -1, 0],
};

export class Navigator {
  constructor(stage, description) {
    Object.assign(this, { stage, description, mode: "orbit", speed: 1, frame: 0 });
    this.up = new Vector3(...description.up);
    this.held = new Set(); // keys that move
    this.fingers = new Map(); // pointers that are down, in fly mode
    this.orbit = new OrbitControls(stage.camera, stage.canvas);
    this.orbit.enableDamping = true;
    this.orbit.dampingFactor = 0.12;
    this.orbit.zoomToCursor = true;
    this.orbit.minDistance = 2 * stage.near;
    this.orbit.maxDistance = 20 * description.radius + 5 * description.depth;
    this.orbit.addEventListener("change", () => stage.ask());
    this.listen(stage.canvas);
    this.reset();
  }

  /** Behind and above where the video begins, looking at what it looks at. */
  reset() {
    const { description, stage, up } = this;
    if (this.mode === "orbit") this.halt();
    const pose = description.world_from_cam[0];
    const eye = centreOf(pose);
    const forward = forwardOf(pose);
    const level = forward.clone().addScaledVector(up, -forward.dot(up));
    if (level.length() < 0.1) level.set(-pose[1], -pose[4], -pose[7]).addScaledVector(up, pose[1] * up.x + pose[4] * up.y + pose[7] * up.z);
    level.normalize();
    const target = eye.clone().addScaledVector(forward, description.depth);
    eye.addScaledVector(level, -0.55 * description.depth).addScaledVector(up, 0.45 * description.depth);
    stage.camera.position.copy(eye);
    this.orbit.target.copy(target);
    stage.camera.lookAt(target);
    if (this.mode === "orbit") this.orbit.update();
    stage.ask();
  }

  setMode(mode) {
    const { stage } = this;
    if (mode === this.mode) return;
    const from = this.mode;
    this.mode = mode;
    this.held.clear();
    this.fingers.clear();
    if (from === "orbit") this.halt();
    this.orbit.enabled = mode === "orbit";
    const { depth } = this.description;
    const forward = new Vector3(0, 0, -1).applyQuaternion(stage.camera.quaternion);
    if (from === "camera") {
      stage.setLens(null);
      stage.camera.position.addScaledVector(forward, -0.5 * depth); // step out of it, so that it is seen from behind
    }
    if (mode === "camera") this.follow(this.frame);
    if (mode === "orbit") {
      this.orbit.target.copy(stage.camera.position).addScaledVector(forward, depth + (from === "camera" ? 0.5 * depth : 0));
      this.orbit.update();
    }
    stage.ask();
  }

  /** No gliding on after a drag. */
  halt() {
    this.orbit.enableDamping = false;
    this.orbit.update();
    this.orbit.enableDamping = true;
  }

  /** The frame shown has changed. */
  follow(frame) {
    this.frame = frame;
    if (this.mode !== "camera") return;
    const { lenses, lens, world_from_cam: poses } = this.description;
    takePose(this.stage.camera, poses[frame]);
    this.stage.setLens(lenses[lens[frame]]);
  }

  /** Turn around this place from now on. */
  centreOn(point) {
    if (this.mode !== "orbit") return;
    this.orbit.target.set(...point);
    this.orbit.update();
  }

  zoom(factor) {
    const offset = this.stage.camera.position.clone().sub(this.orbit.target);
    this.stage.camera.position.copy(this.orbit.target).addScaledVector(offset, factor);
    this.orbit.update();
  }

  /** Whether the view goes on moving by itself. */
  step(seconds) {
    if (this.mode === "orbit") return this.orbit.update();
    if (this.mode !== "fly" || !this.held.size) return false;
    const move = new Vector3();
    for (const key of this.held) if (MOVES[key]) move.add(new Vector3(...MOVES[key]));
    const boost = this.held.has("ShiftLeft") || this.held.has("ShiftRight") ? 3 : 1;
    this.move(move.multiplyScalar(0.7 * this.description.depth * this.speed * boost * Math.min(seconds, 0.1)));
    return true;
  }

  /** By (right, up, forward): along the view, but up along the world's up. */
  move(by) {
    const { camera } = this.stage;
    const right = new Vector3(1, 0, 0).applyQuaternion(camera.quaternion);
    const forward = new Vector3(0, 0, -1).applyQuaternion(camera.quaternion);
    camera.position.addScaledVector(right, by.x).addScaledVector(this.up, by.y).addScaledVector(forward, by.z);
    this.stage.ask();
  }

  turn(right, down) {
    const { camera } = this.stage;
    const forward = new Vector3(0, 0, -1).applyQuaternion(camera.quaternion);
    const tilt = Math.acos(Math.max(-1, Math.min(1, forward.dot(this.up))));
    const least = 0.05; // straight up and down have no left and right
    const pitch = Math.max(least, Math.min(Math.PI - least, tilt + down)) - tilt;
    const about = new Vector3().crossVectors(forward, this.up).normalize();
    forward.applyQuaternion(new Quaternion().setFromAxisAngle(about, -pitch));
    forward.applyQuaternion(new Quaternion().setFromAxisAngle(this.up, -right));
    camera.lookAt(camera.position.clone().add(forward));
    this.stage.ask();
  }

  key(code, down) {
    if (this.mode !== "fly" || (!MOVES[code] && !code.startsWith("Shift"))) return false;
    if (down) this.held.add(code);
    else this.held.delete(code);
    this.stage.ask();
    return MOVES[code] !== undefined;
  }

  release() {
    this.held.clear();
  }

  listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => {
      if (this.mode !== "fly") return;
      canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.mode !== "fly" || !this.fingers.has(event.pointerId)) return;
      const before = [...this.fingers.values()];
      const [x, y] = this.fingers.get(event.pointerId);
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
      const after = [...this.fingers.values()];
      const angle = 2.2 / Math.max(canvas.clientHeight, 300); // of a turn, per pixel
      if (after.length === 1) this.turn((event.clientX - x) * angle, (event.clientY - y) * angle);
      else this.pinch(before, after, canvas);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
    }
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (this.mode !== "fly") return;
        event.preventDefault();
        this.move(new Vector3(0, 0, -Math.sign(event.deltaY) * 0.08 * this.description.depth * this.speed));
      },
      { passive: false },
    );
  }

  // Two fingers: apart is forward, together along the screen is aside.
  pinch([a, b], [c, d], canvas) {
    const distance = ([x, y], [u, v]) => Math.hypot(x - u, y - v);
    const scale = (1.5 * this.description.depth * this.speed) / Math.max(canvas.clientHeight, 300);
    const aside = [(c[0] + d[0] - a[0] - b[0]) / 2, (c[1] + d[1] - a[1] - b[1]) / 2];
    const apart = distance(c, d) - distance(a, b);
    this.move(new Vector3(-aside[0] * scale, aside[1] * scale, apart * scale));
  }
}
