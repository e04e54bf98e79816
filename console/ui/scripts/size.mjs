// Fails when the scripts that the first page needs are larger than the limit.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const limit = 250_000;
const dist = new URL("../dist/", import.meta.url);
const page = readFileSync(new URL("index.html", dist), "utf8");
if (/<script(?![^>]*\ssrc=)[^>]*>|<style|\sstyle=|\son[a-z]+=/i.test(page)) {
  throw new Error("index.html has something inline, which the page's policy forbids");
}
const files = [...page.matchAll(/(?:src|href)="\/(assets\/[^"]+\.js)"/g)].map((m) => m[1]);
if (files.length === 0) throw new Error("index.html names no script");
let total = 0;
for (const file of files) {
  const size = gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length;
  total += size;
  console.log(`${String(size).padStart(8)} B gzipped  ${file}`);
}
console.log(`${String(total).padStart(8)} B gzipped  initial JavaScript, of at most ${limit}`);
if (total > limit) process.exit(1);
