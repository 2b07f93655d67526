// The picture: renderer, camera, and the part of the canvas that is drawn on.
import {
  ColorManagement, LinearSRGBColorSpace, Matrix4, PerspectiveCamera, Scene, Vector3, WebGLRenderer,
} from "three";

// Colours are bytes of pictures and must come out as the same bytes: no conversion in, none out.
ColorManagement.enabled = false;

export const BACKGROUNDS = { dark: 0x15171b, light: 0xf3f2ee };
const MATS = { dark: 0x0b0c0e, light: 0xdfddd6 }; // around the frame, when the view is that of the video's camera

export class Stage {
  /** covered: how many pixels at the bottom of the canvas lie under controls. */
  constructor(canvas, description, covered) {
    this.canvas = canvas;
    this.description = description;
    this.covered = covered;
    this.renderer = new WebGLRenderer({ canvas, antialias: devicePixelRatio < 1.5, preserveDrawingBuffer: false });
    this.renderer.outputColorSpace = LinearSRGBColorSpace;
    this.renderer.autoClear = false;
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(50, 1, 0.01, 1000);
    this.camera.up.set(...description.up);
    this.near = 0.01 * description.depth;
    this.far = 60 * description.radius + 10 * description.depth;
    this.lens = null; // [width, height, fx, fy, cx, cy] of the video while one looks through its camera
    this.area = [0, 0, 1, 1]; // left, top, width, height of what is drawn, CSS pixels
    this.theme = "dark";
    this.drawn = []; // called after each drawing
    this.before = [];
    this.asked = false;
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement;
    if (!width || !height) return;
    this.width = width;
    this.height = height;
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.fit();
  }

  setLens(lens) {
    this.lens = lens;
    this.fit();
  }

  /** Projection and drawn area for the size of the canvas. */
  fit() {
    const { width, height, camera } = this;
    if (!this.lens) {
      this.area = [0, 0, width, height];
      camera.aspect = width / height;
      // A tall phone would see little to the sides of a fixed vertical angle.
      camera.fov = camera.aspect < 1 ? Math.min(80, 50 / Math.sqrt(camera.aspect)) : 50;
      camera.near = this.near;
      camera.far = this.far;
      camera.updateProjectionMatrix();
    } else {
      const free = Math.max(height - this.covered(), 0.3 * height);
      const scale = Math.min(width / this.lens[0], free / this.lens[1]);
      const [w, h] = [this.lens[0] * scale, this.lens[1] * scale];
      this.area = [(width - w) / 2, (free - h) / 2, w, h];
      camera.projectionMatrix.copy(lensProjection(this.lens, 0.2 * this.near, this.far));
      camera.projectionMatrixInverse.copy(camera.projectionMatrix).invert();
    }
    this.ask();
  }

  /** Pixels of the screen that length 1 takes at depth 1. */
  get pixelsAtOne() {
    return 0.5 * this.camera.projectionMatrix.elements[5] * this.area[3] * this.renderer.getPixelRatio();
  }

  /** Draw before the next picture of the screen. */
  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    for (const prepare of this.before) prepare();
    const { renderer, scene, camera, area, height } = this;
    renderer.setScissorTest(false);
    if (this.lens) {
      renderer.setClearColor(MATS[this.theme], 1);
      renderer.setViewport(0, 0, this.width, height);
      renderer.clear();
      renderer.setViewport(area[0], height - area[1] - area[3], area[2], area[3]);
      renderer.setScissor(area[0], height - area[1] - area[3], area[2], area[3]);
      renderer.setScissorTest(true);
    } else {
      renderer.setViewport(0, 0, this.width, height);
    }
    renderer.setClearColor(BACKGROUNDS[this.theme], 1);
    renderer.clear();
    renderer.render(scene, camera);
    for (const after of this.drawn) after();
  }

  /** Place on the canvas of a point in the world, CSS pixels; null behind the camera. */
  toScreen(point) {
    const place = new Vector3(...point).applyMatrix4(this.camera.matrixWorldInverse);
    if (place.z > -1e-9) return null;
    place.applyMatrix4(this.camera.projectionMatrix);
    const [left, top, width, height] = this.area;
    return [left + ((place.x + 1) / 2) * width, top + ((1 - place.y) / 2) * height];
  }

  /** Clip coordinates of a place on the canvas, and how many of them `pixels` are. */
  toClip(x, y, pixels) {
    const [left, top, width, height] = this.area;
    return {
      x: (2 * (x - left)) / width - 1,
      y: 1 - (2 * (y - top)) / height,
      radius: [(2 * pixels) / width, (2 * pixels) / height],
    };
  }

  clipFromWorld() {
    this.camera.updateMatrixWorld();
    return new Matrix4().multiplyMatrices(this.camera.projectionMatrix, this.camera.matrixWorldInverse).elements;
  }

  /** The canvas as a picture file. */
  snapshot() {
    this.draw(); // in the same task as reading: the browser may drop what was drawn before
    return new Promise((done) => this.canvas.toBlob(done, "image/png"));
  }
}

/** OpenGL projection of a pinhole camera whose first pixel has its centre at (0.5, 0.5), any principal point. */
function lensProjection([width, height, fx, fy, cx, cy], near, far) {
  return new Matrix4().set(
    (2 * fx) / width, 0, 1 - (2 * cx) / width, 0,
    0, (2 * fy) / height, (2 * cy) / height - 1, 0,
    0, 0, -(far + near) / (far - near), (-2 * far * near) / (far - near),
    0, 0, -1, 0,
  );
}

/** Turn a pose of the video's camera (x right, y down, z forward; rows of a 3x4 world_from_cam) into three's camera. */
export function takePose(camera, pose) {
  const [a, b, c, d, e, f, g, h, i, x, y, z] = pose;
  const turn = new Matrix4().set(a, -b, -c, 0, d, -e, -f, 0, g, -h, -i, 0, 0, 0, 0, 1);
  camera.quaternion.setFromRotationMatrix(turn);
  camera.position.set(x, y, z);
  camera.updateMatrixWorld();
}

export function centreOf(pose) {
  return new Vector3(pose[9], pose[10], pose[11]);
}

export function forwardOf(pose) {
  return new Vector3(pose[2], pose[5], pose[8]);
}
