// Begins: reads the description, opens the scene, and says in a sentence what went wrong.
import { App } from "./app.js";
import { Controls } from "./controls.js";
import { Damaged, readDescription, textOf } from "./data.js";
import { listenToKeys } from "./keys.js";

const $ = (id) => document.getElementById(id);

function tell(problem) {
  const element = $("trouble");
  element.hidden = !problem;
  if (!problem) return;
  $("loading").hidden = true;
  if (problem instanceof Damaged) {
    element.textContent = `This page is damaged or incomplete (${problem.message}): copy or export it again.`;
  } else {
    element.textContent = problem instanceof Error ? `The page cannot go on: ${problem.message}` : problem;
  }
}

function canDraw() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  } catch {
    return false;
  }
}

async function begin() {
  if (!canDraw()) {
    tell(
      "This browser cannot draw in 3D here (WebGL 2 is missing or switched off). Try a current Firefox, Chrome, Edge or " +
        "Safari, with hardware acceleration on.",
    );
    return;
  }
  const description = readDescription();
  const elements = {
    canvas: $("canvas"), marks: $("marks"), picture: $("picture"), wipe: $("wipe"), wipePicture: $("wipe-picture"),
    wipeEdge: $("wipe-edge"), wipeRange: $("wipe-range"), bar: $("bar"),
  };
  const app = new App(description, elements, tell);
  const controls = new Controls(app);
  listenToKeys(app, controls);
  window.recon4d = { app, controls }; // for people who open the console, and for our tests
  await app.open();
  $("loading").hidden = true;
  controls.complete(JSON.parse(await textOf("end")));
}

window.addEventListener("unhandledrejection", (event) => tell(event.reason));
begin().catch(tell);
