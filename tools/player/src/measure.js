// The distance between two points that were picked, drawn over the scene.

const SVG = "http://www.w3.org/2000/svg";

/** A length in words: metres and centimetres where the size of the scene is known. */
export function lengthText(length, unit) {
  if (unit !== "m") return `${Number(length.toPrecision(4))} units`;
  if (length < 0.1) return `${(100 * length).toFixed(2)} cm`;
  return length < 1 ? `${(100 * length).toFixed(1)} cm` : `${length.toFixed(length < 10 ? 3 : 2)} m`;
}

export class Measure {
  constructor(svg, stage, unit) {
    Object.assign(this, { svg, stage, unit, points: [] });
    const make = (tag, kind) => {
      const element = document.createElementNS(SVG, tag);
      element.setAttribute("class", kind);
      svg.append(element);
      return element;
    };
    this.shadow = make("line", "shadow");
    this.line = make("line", "line");
    this.marks = [make("circle", "mark"), make("circle", "mark")];
    this.plate = make("rect", "plate");
    this.label = make("text", "label");
    stage.drawn.push(() => this.place());
    this.place();
  }

  get distance() {
    if (this.points.length < 2) return null;
    const [a, b] = this.points;
    return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
  }

  add(point) {
    if (this.points.length === 2) this.points = [];
    this.points.push(point);
    this.stage.ask();
  }

  clear() {
    this.points = [];
    this.stage.ask();
  }

  place() {
    const seen = this.points.map((point) => this.stage.toScreen(point));
    this.marks.forEach((mark, k) => put(mark, seen[k], (at) => ({ cx: at[0], cy: at[1], r: 6 })));
    const both = seen.length === 2 && seen[0] && seen[1] ? seen : null;
    const ends = both && { x1: both[0][0], y1: both[0][1], x2: both[1][0], y2: both[1][1] };
    put(this.shadow, ends, () => ends);
    put(this.line, ends, () => ends);
    const text = both ? lengthText(this.distance, this.unit) : "";
    const at = both && [(both[0][0] + both[1][0]) / 2, (both[0][1] + both[1][1]) / 2 - 16];
    this.label.textContent = text;
    put(this.label, at, () => ({ x: at[0], y: at[1] + 5 }));
    const width = 9 * text.length + 18;
    put(this.plate, at, () => ({ x: at[0] - width / 2, y: at[1] - 13, width, height: 26, rx: 13 }));
  }
}

function put(element, there, attributes) {
  element.setAttribute("visibility", there ? "visible" : "hidden");
  if (!there) return;
  for (const [name, value] of Object.entries(attributes(there))) element.setAttribute(name, value);
}
