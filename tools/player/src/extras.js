// What is drawn beside the points: the grid on the floor, the camera's path, and the camera with its picture.
import {
  BufferAttribute, BufferGeometry, CanvasTexture, DoubleSide, GLSL3, Group, LinearFilter, Mesh, NoColorSpace,
  PlaneGeometry, Quaternion, RawShaderMaterial, Vector3,
} from "three";
import { Line2 } from "three/examples/jsm/lines/Line2.js";
import { LineGeometry } from "three/examples/jsm/lines/LineGeometry.js";
import { LineMaterial } from "three/examples/jsm/lines/LineMaterial.js";
import { LineSegments2 } from "three/examples/jsm/lines/LineSegments2.js";
import { LineSegmentsGeometry } from "three/examples/jsm/lines/LineSegmentsGeometry.js";
import { centreOf } from "./stage.js";

const PATH = 0xe0a040;

/** 1, 2 or 5 times a power of ten, nearest below. */
export function roundBelow(length) {
  const power = 10 ** Math.floor(Math.log10(length) + 1e-9);
  return [5, 2, 1].find((step) => step * power <= length * (1 + 1e-9)) * power;
}

const GRID_VERTEX = `
in vec3 position;
uniform mat4 modelViewMatrix, projectionMatrix;
out vec2 place;
void main() {
  place = position.xy;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}`;

const GRID_FRAGMENT = `
precision highp float;
in vec2 place; // on the floor, scene's unit, from below the scene's centre
uniform float spacing, reach;
uniform vec2 offset;
uniform vec3 ink;
out vec4 pixel;
float lines(vec2 at, float half_width) {
  vec2 d = fwidth(at);
  vec2 away = (0.5 - abs(fract(at) - 0.5)) / d;
  float crowded = 1.0 - smoothstep(0.25, 0.6, max(d.x, d.y));
  return clamp(half_width + 0.5 - min(away.x, away.y), 0.0, 1.0) * crowded;
}
void main() {
  vec2 at = (place + offset) / spacing;
  float strength = max(0.38 * lines(at, 0.5), 0.8 * lines(at / 5.0, 0.7));
  strength *= 1.0 - smoothstep(0.55, 1.0, length(place) / reach);
  if (strength < 0.004) discard;
  pixel = vec4(ink * strength, strength);
}`;

export class Grid {
  constructor(description) {
    this.spacing = roundBelow(description.radius / 2.5);
    const reach = 3.2 * description.radius;
    const up = new Vector3(...description.up);
    this.ink = { value: new Vector3() };
    // The quad lies in its own x and y; `turn` brings its z to up.
    const turn = new Quaternion().setFromUnitVectors(new Vector3(0, 0, 1), up);
    const below = new Vector3(...description.centre);
    below.addScaledVector(up, description.floor - below.dot(up));
    const own = below.clone().applyQuaternion(turn.clone().invert());
    const material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: GRID_VERTEX,
      fragmentShader: GRID_FRAGMENT,
      uniforms: {
        spacing: { value: this.spacing },
        reach: { value: reach },
        offset: { value: [own.x % (5 * this.spacing), own.y % (5 * this.spacing)] },
        ink: this.ink,
      },
      transparent: true,
      premultipliedAlpha: true,
      depthWrite: false,
      side: DoubleSide,
    });
    this.object = new Mesh(new PlaneGeometry(2 * reach, 2 * reach), material);
    this.object.quaternion.copy(turn);
    this.object.position.copy(below);
    this.object.renderOrder = 2; // after the points, so that they hide it
  }

  setTheme(theme) {
    this.ink.value.setScalar(theme === "dark" ? 0.72 : 0.28);
  }
}

export class Path {
  constructor(description) {
    const places = description.world_from_cam.flatMap((pose) => centreOf(pose).toArray());
    this.object = new Group();
    this.material = new LineMaterial({ color: PATH, linewidth: 2.5 });
    if (places.length > 3) {
      const geometry = new LineGeometry();
      geometry.setPositions(places);
      const line = new Line2(geometry, this.material);
      line.frustumCulled = false;
      this.object.add(line);
    }
  }
}

/** The video's camera at the frame: a pyramid, and the picture on its base. */
export class Frustum {
  constructor(description, picture) {
    this.description = description;
    this.depth = 0.16 * description.depth;
    this.object = new Group();
    this.material = new LineMaterial({ color: PATH, linewidth: 2 });
    this.edges = new LineSegments2(new LineSegmentsGeometry(), this.material);
    this.edges.frustumCulled = false;
    this.object.add(this.edges);
    if (picture) this.object.add(this.screenOf(picture));
  }

  screenOf(canvas) {
    this.texture = new CanvasTexture(canvas);
    this.texture.colorSpace = NoColorSpace;
    this.texture.generateMipmaps = false;
    this.texture.minFilter = LinearFilter;
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(new Float32Array(12), 3));
    geometry.setAttribute("uv", new BufferAttribute(new Float32Array([0, 1, 1, 1, 1, 0, 0, 0]), 2));
    geometry.setIndex([0, 2, 1, 0, 3, 2]);
    const material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: `in vec3 position; in vec2 uv; uniform mat4 modelViewMatrix, projectionMatrix; out vec2 at;
        void main() { at = uv; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
      fragmentShader: `precision highp float; uniform sampler2D picture; in vec2 at; out vec4 pixel;
        void main() { pixel = vec4(texture(picture, at).rgb, 1.0); }`,
      uniforms: { picture: { value: this.texture } },
      side: DoubleSide,
    });
    this.screen = new Mesh(geometry, material);
    this.screen.frustumCulled = false;
    this.screen.visible = false; // until a picture is there
    return this.screen;
  }

  show(frame) {
    const { lenses, lens, world_from_cam: poses } = this.description;
    const [width, height, fx, fy, cx, cy] = lenses[lens[frame]];
    const pose = poses[frame];
    const corner = (x, y) => {
      const ray = [((x - cx) / fx) * this.depth, ((y - cy) / fy) * this.depth, this.depth];
      return [0, 1, 2].map((k) => pose[3 * k] * ray[0] + pose[3 * k + 1] * ray[1] + pose[3 * k + 2] * ray[2] + pose[9 + k]);
    };
    const eye = centreOf(pose).toArray();
    const corners = [corner(0, 0), corner(width, 0), corner(width, height), corner(0, height)];
    const segments = corners.flatMap((at, k) => [...eye, ...at, ...at, ...corners[(k + 1) % 4]]);
    this.edges.geometry.dispose();
    this.edges.geometry = new LineSegmentsGeometry().setPositions(segments);
    if (!this.screen) return;
    const places = this.screen.geometry.getAttribute("position");
    places.array.set(corners.flat());
    places.needsUpdate = true;
  }

  /** The canvas with the picture has changed. */
  refresh() {
    if (!this.texture) return;
    this.texture.dispose(); // its size may have changed
    this.texture.needsUpdate = true;
    this.screen.visible = true;
  }
}
