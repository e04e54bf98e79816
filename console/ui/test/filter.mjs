// How soon a filter answers: from a key press to the rows on the screen, measured
// in the page. What is asserted is the processor's time of the page and of weir,
// which does not depend on what else the machine does; the time by the clock is
// printed beside it.
import { readFileSync } from "node:fs";
import { assert, open } from "./browser.mjs";
import { password } from "./shift.mjs";
import { signIn } from "./shots.mjs";

const most = 300; // ms
const rounds = 5;

/** cpuOf is the processor's time that a process has taken, in ms. */
function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10; // 100 ticks a second
}

/** watch is run in the page: the next key begins, and rows for another search end. */
const watch = (text) => {
  const before = location.search;
  window.__answered = new Promise((done) => {
    let began = 0;
    addEventListener("keydown", (e) => (began = e.timeStamp), { capture: true });
    const look = () => {
      const group = document.querySelector(".groups .group");
      const head = document.querySelector(".list-head");
      const list = head?.getAttribute("aria-busy") === "false" && head.dataset.search === location.search && (document.querySelector(".rows .row") || document.querySelector(".empty"));
      if (location.search !== before && began > 0 && (!text || new URLSearchParams(location.search).get("q") === text) && (list || (location.search.includes("group=") && group))) {
        // Once it is painted.
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
      } else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
};

export async function filter(browser, server, { least }) {
  const { page, context, complaints } = await open(browser);
  const cdp = await context.newCDPSession(page);
  await cdp.send("Performance.enable");
  const pageCPU = async () => (await cdp.send("Performance.getMetrics")).metrics.find((m) => m.name === "ThreadTime").value * 1000;
  context.setDefaultTimeout(60_000); // a store of this size writes nothing for some seconds after its start
  await signIn(page, server.base, "ada", password);
  await page.goto(server.base + "/alerts?triage=any&suppressed=any");
  await page.locator(".rows .row").nth(3).waitFor();
  const count = Number((await page.locator(".count").textContent()).replace(/\D/g, ""));
  assert(count >= least, `${count} alerts, at least ${least}`);
  console.log(`  ${count.toLocaleString("en")} alerts; from the key press to the painted rows, the median of ${rounds} (the slowest):`);
  /** choose opens a menu by its button and goes to an item by its first letters. */
  const choose = (button, item) => async () => {
    await page.getByRole("button", { name: new RegExp(`^${button}`) }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("menu").waitFor();
    const all = await page.getByRole(/^(Severity|State|Detector)$/.test(button) ? "menuitemcheckbox" : "menuitemradio").allTextContents();
    await page.keyboard.press("Home");
    for (let i = 0; i < all.indexOf(item); i++) await page.keyboard.press("ArrowDown");
    return () => page.keyboard.press("Enter");
  };
  const type = (text) => async () => {
    await page.getByLabel("Search alerts").focus();
    return Object.assign(() => page.keyboard.type(text, { delay: 30 }), { text });
  };
  const steps = [
    ["severity critical", choose("Severity", "critical")],
    ["detector auth.bruteforce", choose("Detector", "auth.bruteforce")],
    ["assigned to nobody", choose("Assignee", "nobody")],
    ["active in the last 30 days", choose("Active in", "last 30 days")],
    ["sort by score", choose("Sort", "score")],
    ["search: a word", type("stuffing")],
    ["search: two words", type("password guessing")],
    ["search: an address", type("10.1.2.3")],
    ["group by detector", choose("Group by", "detector")],
    ["group by severity", choose("Group by", "severity")],
  ];
  const over = [];
  for (const [name, prepare] of steps) {
    const wall = [];
    const cpu = [];
    for (let i = -1; i < rounds; i++) {
      await page.goto(server.base + "/alerts?triage=any&suppressed=any");
      await page.locator(".rows .row").nth(3).waitFor();
      const press = await prepare();
      await page.waitForTimeout(150); // the menu has moved in
      const at = [cpuOf(server.pid), await pageCPU()];
      await page.evaluate(watch, press.text);
      await press();
      const took = await page.evaluate(() => window.__answered);
      if (i < 0) continue; // the first one of its kind reads the store's pages from the disk
      wall.push(took);
      cpu.push([cpuOf(server.pid) - at[0], (await pageCPU()) - at[1]]);
      await page.keyboard.press("Escape");
    }
    const median = (l) => l.toSorted((a, b) => a - b)[Math.floor(l.length / 2)];
    const sums = cpu.map(([a, b]) => a + b);
    console.log(
      `  ${name.padEnd(28)} ${median(wall).toFixed(0).padStart(5)} ms by the clock (${Math.max(...wall).toFixed(0)}); processor ${median(sums).toFixed(0)} ms: weir ${median(cpu.map((c) => c[0])).toFixed(0)}, page ${median(cpu.map((c) => c[1])).toFixed(0)}`,
    );
    if (median(sums) >= most) over.push(`${name}: ${median(sums).toFixed(0)} ms`);
  }
  assert(over.length === 0, `every filter takes less than ${most} ms of the processor; ${over.join(", ")}`);
  await context.close();
  if (complaints.length) throw new Error(complaints.join("\n"));
}
