// v8-coverage.mjs COUNTS DIST: how many lines of each file of DIST were run, by the files that NODE_V8_COVERAGE made.
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const [counts, dist] = process.argv.slice(2);
const run = new Map(); // file -> lines that some process ran
const texts = new Map(readdirSync(dist).filter((f) => f.endsWith(".js")).map((f) => [f, readFileSync(join(dist, f), "utf8")]));

for (const name of readdirSync(counts)) {
  let report;
  try {
    report = JSON.parse(readFileSync(join(counts, name), "utf8"));
  } catch {
    continue; // of a process that was killed while it wrote
  }
  for (const script of report.result) {
    const file = basename(script.url);
    if (!script.url.startsWith("file:") || !fileURLToPath(script.url).endsWith(join("ts", "dist", file)) || !texts.has(file)) continue;
    const text = texts.get(file);
    const ran = new Uint8Array(text.length);
    // (inner ranges come after those around them)
    for (const f of script.functions) for (const r of f.ranges) ran.fill(r.count > 0 ? 1 : 0, r.startOffset, r.endOffset);
    const lines = run.get(file) ?? new Set();
    let at = 0;
    text.split("\n").forEach((line, n) => {
      const first = at + line.search(/\S/);
      if (line.trim() && ran[first]) lines.add(n);
      at += line.length + 1;
    });
    run.set(file, lines);
  }
}
let all = 0;
let hit = 0;
for (const [file, text] of texts) {
  const lines = text.split("\n").filter((line) => line.trim() && !/^\s*(\/\/|\/?\*)/.test(line)).length;
  const ran = [...(run.get(file) ?? [])].filter((n) => !/^\s*(\/\/|\/?\*)/.test(text.split("\n")[n])).length;
  all += lines;
  hit += ran;
  console.log(`${((100 * ran) / lines).toFixed(1).padStart(6)} ${String(lines).padStart(5)} ${file}`);
}
console.log(`${((100 * hit) / all).toFixed(1).padStart(6)} ${String(all).padStart(5)} all`);
