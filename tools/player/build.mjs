// Builds the player's files of the package: node build.mjs FOLDER
import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

const folder = process.argv[2];
if (!folder) throw new Error("the folder to write to is missing");
await mkdir(folder, { recursive: true });

const licence = async (name) => (await readFile(join("node_modules", name, "LICENSE"), "utf8")).trim();
const notice = `/*! Player of recon4d (Apache-2.0), built from tools/player. It contains three.js:

${await licence("three")}

and fflate:

${await licence("fflate")}
*/`;
const shared = { minify: true, charset: "utf8", legalComments: "none", logLevel: "warning", write: false };
const script = await build({
  ...shared, entryPoints: ["src/main.js"], bundle: true, format: "iife", target: "es2022", banner: { js: notice },
});
const style = await build({ ...shared, entryPoints: ["src/player.css"], target: "es2022" });
const markup = (await readFile("src/player.html", "utf8")).replace(/^\s+/gm, "");
await writeFile(join(folder, "player.js"), script.outputFiles[0].text);
await writeFile(join(folder, "player.css"), style.outputFiles[0].text);
await writeFile(join(folder, "player.html"), markup);
