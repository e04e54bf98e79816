// Works a shift in the console against a real weir on made-up traffic:
// node test/run.mjs [shift|keyboard|shots|scroll|filter]...; all without a name.
// MANY=1000 says how many alerts the desk has beside what is found, ROWS=100000
// how many the list that is scrolled and filtered; STORE is one that has them
// already (go run ./bench/manyalerts), SHOTS where screenshots go.
import { execFileSync } from "node:child_process";
import { launch, shots } from "./browser.mjs";
import { filter } from "./filter.mjs";
import { keyboard } from "./keyboard.mjs";
import { scroll } from "./scroll.mjs";
import { serve, serveStore, traffic } from "./serve.mjs";
import { password, shift } from "./shift.mjs";
import { takeShots } from "./shots.mjs";

const root = new URL("../../../", import.meta.url).pathname;
const many = Number(process.env.MANY ?? 1000);
const rows = Number(process.env.ROWS ?? 100_000);
const wanted = process.argv.slice(2);
const wants = (name) => wanted.length === 0 || wanted.includes(name);

/** more copies alerts, so that there is a desk full of them. */
const filler = process.env.MANYALERTS ? [process.env.MANYALERTS] : ["go", "run", "./bench/manyalerts"];
const more = (n, severity = "") => (store) => execFileSync(filler[0], [...filler.slice(1), "-store", store, "-n", String(n), "-severity", severity], { cwd: root, stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, CGO_ENABLED: "0" } });

const browser = await launch();
let failed = 0;
async function step(name, f) {
  const began = Date.now();
  console.log(name);
  try {
    await f();
    console.log(`ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (e) {
    failed++;
    console.error(`FAIL  ${name}: ${e.stack ?? e}`);
    let i = 0;
    for (const c of browser.contexts()) for (const p of c.pages()) await p.screenshot({ path: `${shots}/failed-${name}-${i++}.png` }).catch(() => undefined);
    for (const c of browser.contexts()) await c.close().catch(() => undefined);
  }
}

const log = process.env.STORE ? "" : traffic();
if (["shift", "keyboard", "shots"].some(wants)) {
  const server = await serve({ logs: [log], fill: more(many, "medium,low") });
  if (!wants("shift")) server.user("ada", password, "admin");
  if (wants("shift")) await step("shift", () => shift(browser, server, { many: Math.min(500, many / 4) }));
  if (wants("keyboard")) await step("keyboard", () => keyboard(browser, server, { many: Math.min(500, many / 2) }));
  if (wants("shots")) await step("shots", () => takeShots(browser, server.base, "ada", password));
  await server.stop();
}
if (["scroll", "filter"].some(wants)) {
  const server = process.env.STORE ? await serveStore(process.env.STORE, "ada", password, "admin") : await serve({ logs: [log], fill: more(rows) });
  server.user("ada", password, "admin");
  if (wants("scroll")) await step("scroll", () => scroll(browser, server, { least: rows }));
  if (wants("filter")) await step("filter", () => filter(browser, server, { least: rows }));
  await server.stop();
}
await browser.close();
console.log(`screenshots are in ${shots}`);
process.exit(failed ? 1 : 0);
