// Validates GLB files with the Khronos validator.
//   node validate_glb.mjs <folder that holds node_modules/gltf-validator> <folder of GLB files>
// Prints one JSON object: {validator, files, issues: {errors, warnings, infos, hints}, messages: [up to 20]}.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [home, folder] = process.argv.slice(2);
const validator = createRequire(resolve(home, "package.json"))("gltf-validator");
const issues = { errors: 0, warnings: 0, infos: 0, hints: 0 };
const messages = [];
const files = readdirSync(folder).filter((f) => f.endsWith(".glb")).sort();
for (const file of files) {
  const report = await validator.validateBytes(new Uint8Array(readFileSync(join(folder, file))), { uri: file });
  issues.errors += report.issues.numErrors;
  issues.warnings += report.issues.numWarnings;
  issues.infos += report.issues.numInfos;
  issues.hints += report.issues.numHints;
  for (const m of report.issues.messages) {
    if (messages.length < 20) messages.push(`${file}: ${m.code} ${m.pointer ?? ""} ${m.message}`);
  }
}
console.log(JSON.stringify({ validator: validator.version(), files: files.length, issues, messages }));
