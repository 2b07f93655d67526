// What the page carries: the description of the scene, packed clouds, and pictures, each in a script element.
import { unzlibSync } from "fflate";

/** The page is not as it was written: cut short, or changed on the way. */
export class Damaged extends Error {}

export function readDescription() {
  const element = document.getElementById("scene");
  if (!element) throw new Damaged("the description of the scene is missing");
  try {
    return JSON.parse(element.textContent);
  } catch {
    throw new Damaged("the description of the scene cannot be read");
  }
}

/** The element's text once the browser has read the page so far. */
export async function textOf(id) {
  let element;
  while (!(element = complete(id))) {
    if (document.readyState !== "loading") throw new Damaged(`part ${id} is missing`);
    await new Promise((go) => setTimeout(go, 20));
  }
  return element.textContent;
}

// An element is in the document from its first byte on; only what follows it tells that the browser has read it all.
function complete(id) {
  const element = document.getElementById(id);
  return element && (document.readyState !== "loading" || element.nextElementSibling) ? element : null;
}

export function isThere(id) {
  return complete(id) !== null;
}

function bytesOf(base64, id) {
  try {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  } catch {
    throw new Damaged(`part ${id} is not what was written`);
  }
}

// The browser's own inflater works beside the page; older browsers have none.
async function inflate(bytes) {
  if (typeof DecompressionStream === "undefined") return unzlibSync(bytes);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const HEADER = 36;
const PLANES = 12;

/**
 * A cloud by the id of its element, as `recon4d/view/player_points.py` packs it.
 * cells: uint16 (x, y, z on the grid, provenance + 8 * width code), paint: uint8 (red, green, blue, confidence).
 */
export async function readCloud(id) {
  const packed = bytesOf(await textOf(id), id);
  let raw;
  try {
    raw = await inflate(packed);
  } catch {
    throw new Damaged(`part ${id} is not what was written`);
  }
  const head = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const count = raw.length >= HEADER ? head.getUint32(0, true) : -1;
  if (raw.length !== HEADER + PLANES * count) throw new Damaged(`part ${id} is not what was written`);
  const number = (at) => head.getFloat64(at, true);
  const low = [number(4), number(12), number(20)];
  return { count, low, step: number(28), ...unfold(raw.subarray(HEADER), count) };
}

function unfold(planes, count) {
  const plane = Array.from({ length: PLANES }, (_, k) => planes.subarray(k * count, (k + 1) * count));
  const [a, b, c, d, e, f, green, red, blue, trust, origin, width] = plane;
  const cells = new Uint16Array(4 * count);
  const paint = new Uint8Array(4 * count);
  let low = 0; // lower and upper half of the Morton code, 24 bits each: eight bits of each axis
  let high = 0;
  let [g, rg, bg, t, o, w] = [0, 0, 0, 0, 0, 0];
  for (let i = 0, k = 0; i < count; i++, k += 4) {
    low += a[i] | (b[i] << 8) | (c[i] << 16);
    high += (d[i] | (e[i] << 8) | (f[i] << 16)) + (low >>> 24);
    low &= 0xffffff;
    o = (o + origin[i]) & 255;
    w = (w + width[i]) & 255;
    cells[k] = everyThird(low) | (everyThird(high) << 8);
    cells[k + 1] = everyThird(low >> 1) | (everyThird(high >> 1) << 8);
    cells[k + 2] = everyThird(low >> 2) | (everyThird(high >> 2) << 8);
    cells[k + 3] = o | (w << 3);
    g += green[i];
    rg += red[i];
    bg += blue[i];
    t += trust[i];
    paint[k] = rg + g; // bytes wrap by themselves
    paint[k + 1] = g;
    paint[k + 2] = bg + g;
    paint[k + 3] = t;
  }
  return { cells, paint };
}

function everyThird(bits) {
  bits &= 0x249249;
  bits = (bits | (bits >> 2)) & 0x0c30c3;
  bits = (bits | (bits >> 4)) & 0x00f00f;
  return (bits | (bits >> 8)) & 0xff;
}
