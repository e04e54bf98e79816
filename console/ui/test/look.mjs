// Takes screenshots of addresses: node test/look.mjs BASE PATH... (into test/shots)
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [base, ...paths] = process.argv.slice(2);
const out = new URL("./shots/", import.meta.url).pathname;
mkdirSync(out, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
for (const [width, height] of [[1440, 900], [390, 844]]) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ viewport: { width, height }, colorScheme });
    page.on("console", (m) => m.type() === "error" && console.log("console:", m.text()));
    page.on("pageerror", (e) => console.log("error:", e.message));
    for (const path of paths) {
      await page.goto(base + path);
      await page.waitForTimeout(900);
      await page.screenshot({ path: `${out}look${path.replace(/\W+/g, "_").slice(0, 30)}-${width}-${colorScheme}.png` });
    }
    await page.close();
  }
}
await browser.close();
