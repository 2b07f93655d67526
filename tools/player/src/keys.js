// The keyboard. Keys that a focused control uses itself stay with it.
import { VIDEOS } from "./app.js";

export function listenToKeys(app, controls) {
  const toggle = (name) => app.set({ [name]: !app.state[name] });
  const actions = {
    Space: () => app.togglePlay(),
    ArrowLeft: () => app.stepFrame(-1), ArrowRight: () => app.stepFrame(1),
    Comma: () => app.stepFrame(-1), Period: () => app.stepFrame(1),
    ArrowUp: () => app.state.mode === "orbit" && app.navigator.zoom(1 / 1.1),
    ArrowDown: () => app.state.mode === "orbit" && app.navigator.zoom(1.1),
    Home: () => app.seek(0), End: () => app.seek(app.frames - 1),
    Digit1: () => controls.choose({ mode: "orbit" }),
    Digit2: () => controls.choose({ mode: "fly" }),
    Digit3: () => controls.choose({ mode: "camera" }),
    BracketLeft: () => controls.changeSpeed(-1), BracketRight: () => controls.changeSpeed(1),
    KeyL: () => app.setLoop(!app.clock.loop),
    KeyM: () => controls.toggleMeasure(),
    KeyR: () => controls.reset(), KeyF: () => controls.toggleFull(), KeyH: () => controls.help(),
    KeyG: () => app.setGrid(!app.gridShown),
    KeyP: () => toggle("path"), KeyC: () => toggle("frustum"),
    KeyZ: () => toggle("static"), KeyX: () => toggle("moving"),
    KeyB: () => app.set({ theme: app.state.theme === "dark" ? "light" : "dark" }),
    KeyV: () => app.pictures && app.set({ video: VIDEOS[(VIDEOS.indexOf(app.state.video) + 1) % VIDEOS.length] }),
    Equal: () => controls.changeSize(0.25), NumpadAdd: () => controls.changeSize(0.25),
    Minus: () => controls.changeSize(-0.25), NumpadSubtract: () => controls.changeSize(-0.25),
    Escape: () => {
      if (app.measure.points.length) app.measure.clear();
      else if (app.state.measuring) controls.toggleMeasure(false);
      else controls.panel(false);
      controls.refresh();
    },
  };
  // "?", "+" and "-" lie elsewhere on other keyboards; letters too, but there the place matters (W A S D).
  const byCharacter = { "?": "KeyH", "+": "Equal", "-": "Minus", "[": "BracketLeft", "]": "BracketRight", ",": "Comma", ".": "Period" };

  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
    const code = byCharacter[event.key] ?? letter(event) ?? event.code;
    if (ownKey(event.target, code)) return;
    if (app.navigator.key(event.code, true)) {
      event.preventDefault();
      app.tick();
      return;
    }
    if (!actions[code]) return;
    event.preventDefault();
    actions[code]();
  });
  window.addEventListener("keyup", (event) => app.navigator.key(event.code, false));
  window.addEventListener("blur", () => app.navigator.release());
}

// The letter that is printed on the key, on any layout.
function letter(event) {
  return /^[a-z]$/i.test(event.key) ? `Key${event.key.toUpperCase()}` : undefined;
}

function ownKey(target, code) {
  if (target.id === "scrubber") return ["Tab", "Enter"].includes(code); // ours: one frame at a time
  if (target.matches?.("select, input[type=range]")) return !code.startsWith("Key") && code !== "Space" && code !== "Escape";
  return target.matches?.("button, input, a") && (code === "Space" || code === "Enter");
}
