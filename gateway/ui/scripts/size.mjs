// The first page must load at most 300 KB of compressed files.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const LIMIT = 300 * 1024;
const dist = join(import.meta.dirname, "../dist");
const page = readFileSync(join(dist, "index.html"), "utf8");
const size = (path) => gzipSync(readFileSync(join(dist, path))).length;
// What index.html names, and what those scripts import at once.
const wanted = new Set([...page.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map((match) => match[1]));
for (const path of wanted) {
  if (!path.endsWith(".js")) continue;
  const text = readFileSync(join(dist, path), "utf8");
  for (const match of text.matchAll(/(?:from|import)\s*"\.\/([^"]+\.js)"/g)) wanted.add(`assets/${match[1]}`);
}
const first = [...wanted].reduce((sum, path) => sum + size(path), size("index.html"));
const all = readdirSync(join(dist, "assets")).reduce((sum, name) => sum + size(`assets/${name}`), 0);
console.log(
  `first load ${(first / 1024).toFixed(1)} KiB gzip (${wanted.size} files), all ${(all / 1024).toFixed(1)} KiB`,
);
if (first > LIMIT) {
  console.error(`the first load is above ${LIMIT / 1024} KiB`);
  process.exit(1);
}
