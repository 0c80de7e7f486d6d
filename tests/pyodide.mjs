// Runs a module of Python in Pyodide, the Python of a browser, here under Node.js.
//   node pyodide.mjs '{"pyodide": FOLDER, "packages": [PATH...], "folders": {INSIDE: OUTSIDE}, "run": MODULE, "arguments": [...]}'
// The packages (folders and files) are seen there in /packages, each of the folders at INSIDE. Python imports from
// /rstkit and /packages.
import { lstatSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const plan = JSON.parse(process.argv[2]);
const { loadPyodide } = await import(pathToFileURL(join(plan.pyodide, "pyodide.mjs")));
const python = await loadPyodide({ env: { HOME: "/home/pyodide", PYTHONDONTWRITEBYTECODE: "1" } });

function mount(outside, inside) {
  python.FS.mkdirTree(inside);
  python.FS.mount(python.FS.filesystems.NODEFS, { root: outside }, inside);
}

for (const [inside, outside] of Object.entries(plan.folders)) mount(outside, inside);
python.FS.mkdirTree("/packages");
for (const path of plan.packages) {
  const inside = join("/packages", basename(path));
  if (lstatSync(path).isDirectory()) mount(path, inside);
  else python.FS.writeFile(inside, readFileSync(path));
}
python.globals.set("module", plan.run);
python.globals.set("arguments", python.toPy(plan.arguments));
try {
  await python.runPythonAsync(`
import runpy, sys
sys.path[:0] = ["/rstkit", "/packages"]
sys.argv[1:] = arguments
runpy.run_module(module, run_name="__main__", alter_sys=True)
`);
} catch (error) {
  console.error(error.message); // without it Node.js shows the whole of Pyodide's own source
  process.exitCode = 1;
}
