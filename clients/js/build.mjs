// Builds dist/, and the two files that servers hand out, and copies the license: node build.mjs. With --tests it builds the tests alone.
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

const here = dirname(fileURLToPath(import.meta.url));
process.chdir(here);

const common = { bundle: true, target: "es2021", logLevel: "warning", legalComments: "none" };

/** Build what browsers load as it is. Names that begin with `_` are private to the package, and short in it. */
async function buildSmall(entry, format, outfile) {
  const bundle = { ...common, entryPoints: [entry], format, outfile, write: false, sourcemap: "external" };
  const { outputFiles } = await build({ ...bundle, minify: true, mangleProps: /^_[a-z]/ });
  const [map, bundled] = outputFiles.map(({ text }) => text);
  const name = basename(outfile);
  const small = await minify(bundled, {
    ecma: 2020,
    module: format == "esm",
    toplevel: true,
    compress: { passes: 4, unsafe_arrows: true, hoist_funs: true, reduce_funcs: false, unsafe_methods: true },
    sourceMap: { content: map, filename: name, url: `${name}.map` },
  });
  mkdirSync(dirname(outfile), { recursive: true });
  writeFileSync(outfile, small.code);
  writeFileSync(`${outfile}.map`, small.map);
}

/** An entry of its own shares the client, and its classes of errors, with `mesa-ws`. */
const beside = (client) => ({
  name: "beside",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\.\/index\.js$/ }, () => ({ path: client, external: true })),
});

/** `mesa-ws/shared`, `mesa-ws/react`. */
const buildEntry = (name) => {
  const entry = { ...common, entryPoints: [`src/${name}/index.ts`], sourcemap: true, packages: "external" };
  return [
    build({ ...entry, format: "esm", outfile: `dist/${name}.js`, plugins: [beside("./mesa.js")] }),
    build({ ...entry, format: "cjs", outfile: `dist/${name}.cjs`, plugins: [beside("./mesa.cjs")] }),
  ];
};

async function buildPackage() {
  rmSync("dist", { recursive: true, force: true });
  const entry = { entryPoints: ["src/index.ts"] };
  await Promise.all([
    build({ ...common, ...entry, sourcemap: true, format: "esm", outfile: "dist/mesa.js" }),
    build({ ...common, ...entry, sourcemap: true, format: "cjs", outfile: "dist/mesa.cjs" }),
    buildSmall("src/index.ts", "esm", "dist/mesa.min.mjs"),
    ...buildEntry("shared"),
    ...buildEntry("react"),
    buildSmall("src/shared/whole.ts", "esm", "dist/shared.min.mjs"),
    buildSmall("src/global.ts", "iife", "dist/mesa.min.js"),
  ]);
  buildTypes();
  handOut();
  if (existsSync("../../LICENSE")) copyFileSync("../../LICENSE", "LICENSE");
}

function buildTypes() {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "--project", "."], { stdio: "inherit" });
  // The same types for `require`: what a .d.ts file is depends on the nearest package.json.
  cpSync("dist/types", "dist/types-cjs", { recursive: true });
  writeFileSync("dist/types-cjs/package.json", '{"type":"commonjs"}\n');
}

/** Refresh what the Python server hands out, in a clone of the whole project. */
function handOut() {
  const folder = "../../src/mesa_ws/browser";
  if (!existsSync("../../src/mesa_ws")) return;
  mkdirSync(folder, { recursive: true });
  for (const [built, handedOut] of [["mesa.min.js", "mesa.js"], ["mesa.min.mjs", "mesa.mjs"]]) {
    const script = readFileSync(join("dist", built), "utf8");
    writeFileSync(join(folder, handedOut), `${script.replace(/\/\/# sourceMappingURL=.*/, "").trimEnd()}\n`);
  }
}

async function buildTests() {
  rmSync(".cache/test", { recursive: true, force: true });
  const entryPoints = readdirSync("test").filter((name) => name.endsWith(".test.ts")).map((name) => `test/${name}`);
  // Tests run tabs that share nothing, each with a copy of this.
  await build({ ...common, entryPoints: ["src/shared/whole.ts"], format: "iife", globalName: "Mesa", outfile: ".cache/tab.js" });
  await build({ ...common, entryPoints, sourcemap: "inline", platform: "node", format: "esm", outdir: ".cache/test", outExtension: { ".js": ".mjs" }, packages: "external" });
}

await (process.argv.includes("--tests") ? buildTests() : buildPackage());
