// A browser whose pages may not complain: console errors, page errors,
// violations of the page's policy and serious findings of axe-core fail the test.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const shots = process.env.SHOTS ?? new URL("./shots/", import.meta.url).pathname;
mkdirSync(shots, { recursive: true });

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
}

/** open returns a page of a context of its own, and what it complained of. */
export async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, bypassCSP: false, ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  const complaints = [];
  const expected = []; // regular expressions of what a test provokes
  const complain = (text) => {
    if (expected.some((e) => e.test(text))) return;
    complaints.push(text);
    console.error(`  ${text}`);
  };
  page.on("console", (m) => {
    if (m.type() === "error") complain(`console: ${m.text()} ${m.location().url}`);
  });
  page.on("pageerror", (e) => complain(`error: ${e.stack ?? e.message}`));
  page.on("request", (r) => {
    if (!/^(http:\/\/127\.0\.0\.1|blob:http:\/\/127\.0\.0\.1)/.test(r.url())) complain(`asks another server: ${r.url()}`);
  });
  await page.exposeFunction("__violation", (text) => complain(`policy: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (e) => window.__violation(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`));
  });
  return { page, context, complaints, expected };
}

/** audit runs axe-core in the page. It is evaluated by the debugger, which no policy holds back. */
export async function audit(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const r = await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
    return r.violations.map((v) => ({ id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map((n) => `${n.target.join(" ")} ${n.failureSummary?.split("\n")[1] ?? ""}`) }));
  });
  const serious = found.filter((v) => v.impact === "serious" || v.impact === "critical");
  for (const v of found.filter((x) => !serious.includes(x))) console.log(`  axe, ${v.impact}, ${where}: ${v.id} ${v.nodes[0] ?? ""}`);
  if (serious.length) throw new Error(`axe-core on ${where}:\n${JSON.stringify(serious, null, 1)}`);
}

export function assert(ok, what) {
  if (!ok) throw new Error("not so: " + what);
}

/** eventually waits until f returns something true. */
export async function eventually(f, what, ms = 10_000) {
  const end = Date.now() + ms;
  let last;
  while (Date.now() < end) {
    try {
      last = await f();
      if (last) return last;
    } catch (e) {
      last = e;
    }
    await new Promise((r) => setTimeout(r, 50));
  }
  throw new Error(`never: ${what} (${last})`);
}
