// Clouds on the graphics card: 12 bytes a point, unfolded and painted by the shader.
import { BufferAttribute, BufferGeometry, GLSL3, Points, RawShaderMaterial, Vector3 } from "three";

/** Colours of confidence 0, 1/2 and 1, bytes: from blue through green to yellow. */
export const TRUST = [[69, 64, 153], [33, 158, 140], [250, 224, 64]];
const [LOW, HALF, HIGH] = TRUST.map((color) => `vec3(${color.map((byte) => (byte / 255).toFixed(4)).join(", ")})`);

const VERTEX = `
precision highp float;
precision highp int;
in vec4 position; // cells of the grid; w = provenance + 8 * width code
in vec4 paint; // red, green, blue, confidence
uniform mat4 modelViewMatrix, projectionMatrix;
uniform vec3 low;
uniform float cell, size, grow, pixels, threshold, widthUnit, least, most;
uniform int origins, look;
uniform vec3 originColors[5];
out vec3 color;
out float wide;
out vec4 cone; // z of the centre before the camera, how far the rim lies behind it, and the projection of depth

vec3 trust(float t) {
  vec3 a = ${LOW}, b = ${HALF}, c = ${HIGH};
  return t < 0.5 ? mix(a, b, 2.0 * t) : mix(b, c, 2.0 * t - 1.0);
}

void main() {
  int w = int(position.w + 0.5);
  int origin = min(w & 7, 4);
  float code = float(w >> 3);
  if (paint.a < threshold - 0.001 || ((origins >> origin) & 1) == 0) {
    gl_Position = vec4(0.0, 0.0, -2.0, 1.0); // before the near plane
    gl_PointSize = 0.0;
    return;
  }
  vec4 place = modelViewMatrix * vec4(low + cell * position.xyz, 1.0);
  gl_Position = projectionMatrix * place;
  float width = code > 0.0 ? widthUnit * exp2((code - 1.0) / 4.0) : 0.0;
  wide = clamp(size * grow * width * pixels / max(-place.z, 1e-9), least * max(size, 0.5), most);
  gl_PointSize = wide;
  cone = vec4(place.z, 0.5 * wide * max(-place.z, 1e-9) / pixels, projectionMatrix[2][2], projectionMatrix[3][2]);
  color = look == 1 ? trust(paint.a) : look == 2 ? originColors[origin] : paint.rgb;
}`;

const FRAGMENT = `
precision highp float;
in vec3 color;
in float wide;
in vec4 cone;
out vec4 pixel;
void main() {
  vec2 d = gl_PointCoord - 0.5;
  float r2 = 4.0 * dot(d, d);
  if (wide > 3.0 && r2 > 1.0) discard; // small ones stay squares: there is no round shape to see
  // A bowl rather than a disc: of neighbours that overlap each pixel takes the nearest, so details stay sharp
  // (paraboloids of Schuetz, Potree, 2016).
  float z = cone.x - cone.y * r2;
  gl_FragDepth = 0.5 - 0.5 * (cone.z + cone.w / z);
  pixel = vec4(color, 1.0);
}`;

export const LOOKS = ["picture", "confidence", "provenance"];

/** What all clouds share: how points look and which are shown. */
export function sharedUniforms({ width_unit: widthUnit, origins }) {
  return {
    size: { value: 1 },
    pixels: { value: 1 }, // on the screen, of length 1 at depth 1
    threshold: { value: 0 },
    widthUnit: { value: 1.7 * widthUnit }, // wider than the spacing, so that no gaps are left
    least: { value: 1.5 },
    most: { value: 64 },
    origins: { value: 31 },
    look: { value: 0 },
    originColors: { value: origins.map(({ color }) => new Vector3(...color).divideScalar(255)) },
  };
}

export class Cloud {
  constructor({ count, low, step, cells, paint }, shared) {
    this.data = { count, low, step, cells, paint };
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(cells, 4));
    geometry.setAttribute("paint", new BufferAttribute(paint, 4, true));
    this.grow = { value: 1 };
    const material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      uniforms: { ...shared, low: { value: new Vector3(...low) }, cell: { value: step }, grow: this.grow },
    });
    this.object = new Points(geometry, material);
    this.object.frustumCulled = false; // its bounds are not in the attribute
    this.object.visible = count > 0;
  }

  dispose() {
    this.object.removeFromParent();
    this.object.geometry.dispose();
    this.object.material.dispose();
  }
}

/**
 * The point of some clouds that lies under a place on the screen: the one nearest to it among those in front.
 * matrix: clip from world (elements, column by column); x, y: clip coordinates; radius: of the search, clip units of
 * width and height. Returns [x, y, z] or null.
 */
export function pick(clouds, matrix, x, y, radius, { threshold, origins }) {
  const m = matrix;
  let found = null;
  for (const { count, low, step, cells, paint } of clouds) {
    for (let i = 0; i < 4 * count; i += 4) {
      if (paint[i + 3] / 255 < threshold - 0.001 || !((origins >> Math.min(cells[i + 3] & 7, 4)) & 1)) continue;
      const px = low[0] + step * cells[i];
      const py = low[1] + step * cells[i + 1];
      const pz = low[2] + step * cells[i + 2];
      const w = m[3] * px + m[7] * py + m[11] * pz + m[15];
      if (w <= 0) continue;
      const dx = ((m[0] * px + m[4] * py + m[8] * pz + m[12]) / w - x) / radius[0];
      const dy = ((m[1] * px + m[5] * py + m[9] * pz + m[13]) / w - y) / radius[1];
      const off = dx * dx + dy * dy;
      if (off > 1) continue;
      // A point at the rim of the search counts as 6 % farther: the front surface wins, there the nearest to the click.
      const cost = w * (1 + 0.06 * off);
      if (!found || cost < found.cost) found = { cost, point: [px, py, pz] };
    }
  }
  return found && found.point;
}
