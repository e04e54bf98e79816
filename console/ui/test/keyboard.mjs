// The same shift by keyboard alone.
import { assert, eventually, open, shots } from "./browser.mjs";
import { api, password, tabTo, toast } from "./shift.mjs";

export async function keyboard(browser, server, { many }) {
  const { page, context, complaints } = await open(browser);
  const press = async (...keys) => {
    for (const k of keys) await page.keyboard.press(k);
  };
  const type = (text) => page.keyboard.type(text);
  await page.goto(server.base + "/sign-in");
  await page.getByLabel("User").waitFor();
  await eventually(() => page.evaluate(() => document.activeElement?.tagName === "INPUT"), "the first field has the focus");
  await type("ada");
  await press("Tab");
  await type(password);
  await press("Enter");
  await page.waitForURL("**/alerts");
  await page.locator(".rows .row").nth(3).waitFor();
  // A filter's menu.
  await tabTo(page, /^\|Severity/);
  await press("Enter", "ArrowDown", "ArrowDown", "Space", "Escape");
  await eventually(() => new URL(page.url()).searchParams.get("severity") === "medium", "the filter is in the address");
  await eventually(async () => (await page.locator(".rows .row .c-sev").allTextContents()).every((t) => t === "medium"), "it filters");
  await tabTo(page, /Clear filters/);
  await press("Enter");
  await eventually(() => new URL(page.url()).search === "", "no filter is left");
  // Search, from the keyboard and back.
  await press("/");
  await type("password guessing");
  await eventually(() => new URL(page.url()).searchParams.get("q") === "password guessing", "the search is in the address");
  await eventually(async () => {
    const seen = await page.locator(".rows .row .title").allTextContents();
    return seen.length > 2 && seen.every((t) => /password guessing/i.test(t));
  }, "it finds");
  await press("Tab"); // out of the field
  await press("j", "k", "o");
  await page.waitForURL("**/alerts/*");
  const id = new URL(page.url()).pathname.split("/").at(-1);
  await page.locator(".reason").waitFor();
  const state = async () => (await api(page, `/api/v1/alerts/${id}`)).data.at(-1).envelope.triage;
  await press("a");
  await page.locator(".triage-bar", { hasText: "assigned to ada" }).waitFor();
  await press("u");
  await page.locator(".triage-bar", { hasText: "nobody has it" }).waitFor();
  await press("i");
  await page.locator(".triage-bar .triage-in_progress").waitFor();
  await press("m");
  await page.getByRole("dialog").waitFor();
  await type("Looked at it by keyboard.");
  await press("Control+Enter");
  await page.locator(".activity blockquote", { hasText: "by keyboard" }).waitFor();
  await press("t");
  await page.getByRole("dialog").waitFor();
  await type("keys");
  await press("Enter");
  await page.locator(".triage-bar .tag", { hasText: "keys" }).waitFor();
  await press("s");
  await page.locator(".preview", { hasText: "would have hidden" }).waitFor();
  await tabTo(page, /TEXTAREA$/);
  await type("looked at by keyboard");
  await tabTo(page, /^\|Suppress\|/);
  await press("Enter");
  await toast(page, "Suppressed for 1 day").waitFor();
  await press("u");
  await toast(page, "has ended").waitFor();
  await press("c");
  await page.getByRole("dialog").waitFor();
  await press("2", "Enter");
  await page.locator(".triage-bar", { hasText: "closed: real, benign" }).waitFor();
  assert((await state()).verdict === "benign_positive", "the verdict is stored");
  await press("u");
  await page.locator(".triage-bar .triage-in_progress").waitFor();
  // Back to the list: the search is still there; select three and close them.
  await press("Escape");
  await page.waitForURL("**/alerts?q=*");
  await page.locator(".rows .row").nth(2).waitFor();
  await press("Shift+j", "Shift+j");
  await page.getByText("3 selected").waitFor();
  await press("c");
  await page.getByRole("dialog").waitFor();
  await press("5", "Enter");
  await toast(page, "3 alerts closed as duplicate").waitFor();
  await press("u");
  await toast(page, "3 alerts taken back").waitFor();
  // Close all that match, hundreds of them.
  await press("g", "a");
  await eventually(() => new URL(page.url()).search === "", "the list without filters");
  await page.locator(".rows .row").nth(3).waitFor();
  await eventually(async () => Number((await page.locator(".count").textContent()).replace(/\D/g, "")) >= many, "the count is there");
  const count = Number((await page.locator(".count").textContent()).replace(/\D/g, ""));
  await press("*");
  await page.getByText("that match").waitFor();
  await press("c");
  await page.getByRole("dialog").waitFor();
  await press("7", "Enter");
  await toast(page, `${count.toLocaleString("en")} alerts closed as test`).waitFor({ timeout: 30_000 });
  await press("u");
  await toast(page, `${count.toLocaleString("en")} alerts taken back`).waitFor({ timeout: 30_000 });
  // A campaign.
  await press("g", "c");
  await page.waitForURL("**/campaigns");
  await page.locator(".group.campaign a").first().waitFor();
  await page.locator("#main").focus();
  await tabTo(page, /\|A$/);
  await press("Enter");
  await page.waitForURL("**/campaigns/*");
  await page.locator(".gantt li").first().waitFor();
  // A change of the configuration: written, tried, applied.
  await press("g", "t");
  await page.waitForURL("**/tuning");
  await page.locator("textarea").waitFor();
  await tabTo(page, /TEXTAREA$/);
  await press("Control+End");
  const before = (await api(page, "/api/v1/config")).yaml;
  await type(/^detect:/m.test(before) ? "  inject.probe: {mode: shadow}\n" : "\ndetect:\n  inject.probe: {mode: shadow}\n");
  await page.locator(".values", { hasText: "detect.inject.probe.mode" }).waitFor();
  await tabTo(page, /Try on what is stored/, "Shift+Tab");
  await press("Enter");
  await page.getByText("What would change").waitFor({ timeout: 120_000 });
  await tabTo(page, /^\|Apply …/);
  await press("Enter");
  await page.getByRole("dialog").waitFor();
  await press("Enter"); // Apply has the focus
  await toast(page, "Applied").waitFor();
  assert((await api(page, "/api/v1/config")).yaml.includes("inject.probe: {mode: shadow}"), "the change is in force");
  // Pages by two keys, and a switch that turns single keys off.
  await press("g", "c");
  await page.waitForURL("**/campaigns");
  await press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await page.screenshot({ path: `${shots}/keyboard-keys.png` });
  await press("Shift+Tab", "Space");
  await press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await press("g", "a");
  await page.waitForTimeout(300);
  assert(page.url().endsWith("/campaigns"), "single keys do nothing once they are off");
  // What is no character key works all the same.
  await page.goto(server.base + "/alerts");
  await page.locator(".rows .row").nth(3).waitFor();
  for (let i = 0; i < 60; i++) {
    await press("Tab");
    if (await page.evaluate(() => document.activeElement?.getAttribute("role") === "grid")) break;
  }
  assert(await page.evaluate(() => document.activeElement?.getAttribute("role") === "grid"), "Tab comes to the list");
  await press("ArrowDown", "Space");
  await page.getByText("1 selected").waitFor();
  await press("Enter");
  await page.waitForURL("**/alerts/*");
  await context.close();
  if (complaints.length) throw new Error(complaints.join("\n"));
}
