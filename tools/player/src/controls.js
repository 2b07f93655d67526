// The controls of the page: each calls the app, and all show its state.
import { SPEEDS } from "./app.js";
import { TRUST } from "./points.js";

const $ = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
const press = () => (matchMedia("(pointer: coarse)").matches ? "Tap" : "Click");
const css = (color) => `rgb(${color.join(" ")})`;

function clockText(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

/** Exactly one of some buttons is chosen; arrows move between them. */
function choice(id, chosen) {
  const buttons = [...$(id).querySelectorAll("button")];
  for (const button of buttons) button.addEventListener("click", () => chosen(button.dataset.value));
  $(id).addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const open = buttons.filter((button) => !button.disabled);
    const next = open[(open.indexOf(document.activeElement) + by + open.length) % open.length];
    next.focus();
    next.click();
  });
  return (value) => {
    for (const button of buttons) {
      const is = button.dataset.value === value;
      button.setAttribute("aria-checked", is);
      button.tabIndex = is ? 0 : -1;
    }
  };
}

export class Controls {
  constructor(app) {
    this.app = app;
    this.describe(app.description);
    this.modes = choice("modes", (mode) => this.choose({ mode }));
    this.videos = choice("videos", (video) => app.set({ video }));
    this.looks = choice("looks", (look) => app.set({ look }));
    if (!app.pictures) for (const button of $("videos").querySelectorAll("button")) button.disabled = true;
    $("trust-bar").style.background = `linear-gradient(to right, ${TRUST.map(css).join(", ")})`;
    this.wire();
    app.changed.push(() => this.refresh());
    this.refresh();
  }

  describe(d) {
    const app = $("app");
    app.dataset.frames = d.names.length;
    $("title").textContent = d.title;
    const frames = d.names.length === 1 ? "1 frame" : `${count.format(d.names.length)} frames`;
    const size = d.unit === "m" ? "in metres" : "in units (size not known)";
    $("facts").textContent = `${frames} · ${count.format(d.static_points + d.moving_points)} points · ${size}`;
    const thinned = [];
    if (d.static_points < d.static_whole) {
      thinned.push(`background ${count.format(d.static_points)} of ${count.format(d.static_whole)} points`);
    }
    if (d.moving_points < d.moving_whole) {
      thinned.push(`moving ${count.format(d.moving_points)} of ${count.format(d.moving_whole)} points`);
    }
    const fewer = thinned.length ? `Thinned: ${thinned.join(", ")}` : "";
    $("thinned").textContent = [fewer, d.pictures_left_out && "No room for the video"].filter(Boolean).join(" · ");
    $("thinned").hidden = !$("thinned").textContent;
    $("scrubber").max = d.starts_s[d.starts_s.length - 1];
    const lines = [
      `${frames}, ${count.format(d.static_points)} points of the background, ${count.format(d.moving_points)} moving points in all frames together.`,
      fewer && `${fewer}.`,
      ...d.notes,
      `Axes: ${d.axes}. Lengths in ${d.unit === "m" ? "metres" : "units of the reconstruction"}.`,
      `Made with ${d.program}. Drawn with three.js (MIT) and fflate (MIT).`,
    ];
    $("about-text").textContent = lines.filter(Boolean).join("\n");
  }

  /** What only the end of the page tells. */
  complete({ position_error: error, origin_points: points }) {
    this.addOrigins(points);
    const { unit } = this.app.description;
    const text = unit === "m" ? `${Number((1000 * error).toPrecision(2))} mm` : `${Number(error.toPrecision(2))} units`;
    $("about-text").textContent += `\nPositions are rounded by at most ${text} along each axis.`;
  }

  /** A switch for each way in which points of this scene came about; points: how many there are of each. */
  addOrigins(points) {
    this.app.description.origins.forEach(({ words, color }, origin) => {
      if (!points[origin]) return;
      const label = document.createElement("label");
      label.className = "check";
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, id: `origin-${origin}` });
      const text = Object.assign(document.createElement("span"), { textContent: words });
      const number = Object.assign(document.createElement("output"), { textContent: count.format(points[origin]) });
      const swatch = Object.assign(document.createElement("i"), { className: "swatch" });
      swatch.style.background = css(color);
      label.append(box, text, number, swatch);
      $("origins").append(label);
      box.addEventListener("change", () => this.app.setOrigin(origin, box.checked));
    });
    $("origin-group").hidden = !$("origins").childElementCount;
  }

  wire() {
    const { app } = this;
    const click = (id, act) => $(id).addEventListener("click", act);
    const checked = (id, act) => $(id).addEventListener("change", () => act($(id).checked));
    click("play", () => app.togglePlay());
    click("loop", () => app.setLoop(!app.clock.loop));
    click("reset", () => this.reset());
    click("full", () => this.toggleFull());
    click("measure", () => this.toggleMeasure());
    click("save", () => this.save());
    click("help-open", () => this.help());
    click("panel-open", () => this.panel($("panel").hidden));
    click("panel-close", () => this.panel(false));
    for (const name of ["static", "moving", "path", "frustum"]) checked(name, (on) => app.set({ [name]: on }));
    checked("grid", (on) => app.setGrid(on));
    checked("light", (on) => app.set({ theme: on ? "light" : "dark" }));
    $("size").addEventListener("input", () => app.set({ size: 2 ** Number($("size").value) }));
    $("confidence").addEventListener("input", () => app.set({ threshold: Number($("confidence").value) / 100 }));
    $("speed").addEventListener("change", () => app.setSpeed(Number($("speed").value)));
    $("scrubber").addEventListener("input", () => {
      const frame = app.clock.nearest(Number($("scrubber").value)); // before anything shows the old time again
      app.pause();
      app.seek(frame);
    });
    $("wipe-range").addEventListener("input", () => app.stage.ask());
    document.addEventListener("fullscreenchange", () => this.refresh());
    $("help").addEventListener("click", (event) => event.target === $("help") && $("help").close());
    this.wireCanvas();
    for (const button of $("fly-pad").querySelectorAll("button")) {
      const hold = (down) => (event) => {
        event.preventDefault();
        app.navigator.key(button.dataset.move, down);
        app.tick();
      };
      button.addEventListener("pointerdown", hold(true));
      for (const end of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(end, hold(false));
    }
  }

  wireCanvas() {
    const { app } = this;
    const { canvas } = app.elements;
    let down = null;
    canvas.addEventListener("pointerdown", (event) => {
      down = event.isPrimary && event.button === 0 ? [event.clientX, event.clientY] : null;
      app.tick(); // the view glides on after a drag
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && app.tick());
    canvas.addEventListener("wheel", () => app.tick(), { passive: true });
    canvas.addEventListener("pointerup", (event) => {
      if (!down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > 6) return;
      if (app.state.measuring) this.measureAt(event.clientX, event.clientY);
    });
    canvas.addEventListener("dblclick", (event) => {
      if (app.state.measuring || app.state.mode !== "orbit") return;
      const point = app.pickAt(event.clientX, event.clientY);
      if (point) app.navigator.centreOn(point);
    });
  }

  // -- actions that keys share ---------------------------------------------------------------------------------------

  choose(changes) {
    this.app.set(changes);
    this.app.tick();
  }

  reset() {
    if (this.app.state.mode === "camera") this.app.set({ mode: "orbit" });
    this.app.navigator.reset();
  }

  toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch(() => this.hint("This browser does not allow full screen here."));
  }

  toggleMeasure(on = !this.app.state.measuring) {
    if (!on) this.app.measure.clear();
    this.app.set({ measuring: on });
  }

  measureAt(x, y) {
    const point = this.app.pickAt(x, y);
    if (!point) return this.hint(`There is no point here: ${press().toLowerCase()} on one.`, 2500);
    this.app.measure.add(point);
    this.refresh();
  }

  changeSize(by) {
    $("size").value = Number($("size").value) + by;
    this.app.set({ size: 2 ** Number($("size").value) });
  }

  changeSpeed(by) {
    const at = SPEEDS.indexOf(this.app.clock.speed) + by;
    if (at >= 0 && at < SPEEDS.length) this.app.setSpeed(SPEEDS[at]);
  }

  help() {
    if ($("help").open) $("help").close();
    else $("help").showModal();
  }

  panel(open) {
    $("panel").hidden = !open;
    $("panel-open").setAttribute("aria-expanded", open);
    if (!open && $("panel").contains(document.activeElement)) $("panel-open").focus();
    this.refresh();
  }

  async save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await this.app.stage.snapshot());
    link.download = `${this.app.description.title}-${this.app.description.names[this.app.clock.frame]}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  hint(text, ms = 4000) {
    clearTimeout(this.hiding);
    this.passing = text;
    this.hiding = setTimeout(() => {
      this.passing = "";
      this.refresh();
    }, ms);
    this.refresh();
  }

  // -- the state, shown ----------------------------------------------------------------------------------------------

  refresh() {
    const { app } = this;
    const { state, clock } = app;
    const names = app.description.names;
    const set = (element, name, value) => element.getAttribute(name) !== `${value}` && element.setAttribute(name, value);
    document.documentElement.dataset.theme = state.theme;
    Object.assign($("app").dataset, { mode: state.mode, video: state.video });
    $("app").toggleAttribute("data-measuring", state.measuring);
    this.modes(state.mode);
    this.videos(state.video);
    this.looks(state.look);
    $("trust").hidden = state.look !== "confidence";
    $("static").checked = state.static;
    $("moving").checked = state.moving;
    $("path").checked = state.path;
    $("frustum").checked = state.frustum;
    $("grid").checked = app.gridShown;
    $("light").checked = state.theme === "light";
    $("size-text").textContent = `${state.size.toFixed(state.size < 1 ? 2 : 1)}×`;
    $("confidence-text").textContent = state.threshold ? `≥ ${Math.round(100 * state.threshold)}%` : "all";
    $("fly-pad").hidden = state.mode !== "fly";
    set($("measure"), "aria-pressed", state.measuring);
    set($("full"), "aria-pressed", Boolean(document.fullscreenElement));
    set($("play"), "aria-pressed", clock.playing);
    set($("play"), "aria-label", clock.playing ? "Pause" : "Play");
    set($("loop"), "aria-pressed", clock.loop);
    $("speed").value = clock.speed;
    const frame = clock.frame;
    if (document.activeElement !== $("scrubber") || clock.playing || Number($("scrubber").value) !== clock.time) {
      $("scrubber").value = Math.min(clock.time, Number($("scrubber").max));
    }
    const time = app.description.starts_s[frame];
    set($("scrubber"), "aria-valuetext", `frame ${names[frame]}, ${time.toFixed(2)} seconds`);
    $("frame-text").textContent = names[frame];
    $("count-text").textContent = ` · ${frame + 1} of ${names.length}`;
    $("time-text").textContent = clockText(time);
    $("length-text").textContent = ` / ${clockText(clock.duration)}`;
    $("grid-scale").hidden = !app.gridShown;
    const spacing = app.grid.spacing;
    $("grid-scale").textContent = app.description.unit === "m" ? gridText(spacing) : `${spacing} units`;
    this.refreshHint();
  }

  refreshHint() {
    const { state, measure } = this.app;
    const wanted = [
      `${press()} two points to measure between them.`, `${press()} the second point.`,
      press() === "Tap" ? "Tap again for a new measurement." : "Click again for a new measurement; Esc clears it.",
    ];
    const text = this.passing || (state.measuring ? wanted[measure.points.length] : "");
    $("hint").hidden = !text;
    if ($("hint").textContent !== text) $("hint").textContent = text;
  }
}

function gridText(metres) {
  return metres < 1 ? `${Number((100 * metres).toPrecision(3))} cm` : `${metres} m`;
}
