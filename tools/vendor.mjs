// Copies what static/vendor ships out of node_modules, and writes its README. `npm run vendor` calls it.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const TARGET = join(ROOT, "kedro_flask_server", "web", "static", "vendor");

// Beside the files that pages load: their licences, and those that a bundle's first line refers to.
const VENDORED = [
  {
    folder: "dagre",
    name: "@dagrejs/dagre",
    files: ["dist/dagre.min.js", "dist/dagre.min.js.LEGAL.txt", "LICENSE"],
  },
  {
    folder: "htmx",
    name: "htmx.org",
    files: ["dist/htmx.min.js", "dist/ext/hx-sse.min.js", "LICENSE"],
  },
  {
    folder: "swagger-ui",
    name: "swagger-ui-dist",
    files: [
      "favicon-32x32.png",
      "swagger-ui-bundle.js",
      "swagger-ui-bundle.js.LICENSE.txt",
      "swagger-ui.css",
      "LICENSE",
      "NOTICE",
    ],
  },
];

// Source maps are not shipped: a browser's developer tools would ask for them in vain.
const SOURCE_MAP = /^(?:\/\/# sourceMappingURL=.*|\/\*# sourceMappingURL=.*\*\/)\n?/gm;

function copy(source, target) {
  const content = readFileSync(source);
  const isCode = /\.(js|css)$/.test(source);
  writeFileSync(target, isCode ? content.toString("utf8").replace(SOURCE_MAP, "") : content);
}

function vendor({ folder, name, files }) {
  const source = join(ROOT, "node_modules", name);
  mkdirSync(join(TARGET, folder), { recursive: true });
  for (const file of files) {
    copy(join(source, file), join(TARGET, folder, basename(file)));
  }
  const { version, license } = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
  const loaded = files.map((file) => `\`${basename(file)}\``).join(", ");
  return `| ${folder} | ${name} | ${version} | ${license} | ${loaded} |`;
}

rmSync(TARGET, { recursive: true, force: true });
const rows = VENDORED.map(vendor);
writeFileSync(
  join(TARGET, "README.md"),
  `# Vendored browser files

Files of others, as their npm packages have them, less the references to source maps.
\`npm run vendor\` writes this folder; edit nothing here by hand.

| folder | package | version | licence | files |
| --- | --- | --- | --- | --- |
${rows.join("\n")}
`,
);
