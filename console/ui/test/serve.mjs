// Starts a real weir on made-up traffic, with a store of its own.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("../../../", import.meta.url).pathname;
const weir = process.env.WEIR ?? join(root, "bin/weir");

/** traffic is a day of a shop with attacks in it, the same every time. */
export function traffic() {
  const dir = mkdtempSync(join(tmpdir(), "weir-ui-log-"));
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  const log = join(dir, "access.log");
  execFileSync(weir, ["simulate", "--quiet", "--seed", "3", "--out", log, "--labels", join(dir, "labels.ndjson")]);
  return log;
}

async function start(args, dir, take) {
  const child = spawn(weir, args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
  process.on("exit", () => child.kill()); // also when a test throws
  const base = await new Promise((done, fail) => {
    let printed = "";
    const timer = setTimeout(() => fail(new Error("weir did not start:\n" + printed)), 120_000);
    const read = (chunk) => {
      printed += chunk;
      take(String(chunk));
      const m = /weir is running.*"http": "([^"]+)"/.exec(printed);
      if (m) {
        clearTimeout(timer);
        done(m[1]);
      }
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code) => fail(new Error(`weir ended with ${code}:\n${printed}`)));
  });
  const stop = () =>
    new Promise((done) => {
      child.removeAllListeners("exit");
      child.on("exit", done);
      child.kill("SIGTERM");
    });
  return { base, pid: child.pid, stop };
}

/** settled waits until alerts stop coming. */
async function settled(base) {
  let before = -1;
  let same = 0;
  for (let i = 0; i < 180; i++) {
    const page = await (await fetch(`${base}/api/v1/alerts?limit=1000`)).json();
    const now = page.data?.length ?? 0;
    same = now > 0 && now === before && (await fetch(`${base}/readyz`)).ok ? same + 1 : 0;
    if (same === 5) return;
    before = now;
    await new Promise((r) => setTimeout(r, 1000));
  }
  throw new Error("weir found nothing");
}

/** serveStore runs weir on a store that is there, with no log to read. */
export async function serveStore(store, name, password, role) {
  const dir = mkdtempSync(join(tmpdir(), "weir-ui-"));
  const config = join(dir, "weir.yaml");
  writeFileSync(config, `collect:\n  - file: ${join(dir, "nothing.log")}\n    format: combined\n`);
  writeFileSync(join(dir, "nothing.log"), "");
  try {
    execFileSync(weir, ["user", "add", "--store", store, name, "--role", role], { cwd: dir, input: password + "\n", stdio: ["pipe", "ignore", "pipe"] });
  } catch (e) {
    if (!/there is a user/.test(String(e.stderr))) throw new Error(String(e.stderr), { cause: e });
  }
  const running = await start(["run", "-c", config, "--store", store, "--listen", "127.0.0.1:0"], dir, () => undefined);
  return {
    base: running.base,
    pid: running.pid,
    user: () => undefined,
    stop: async () => {
      await running.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** serve resolves once weir has looked through logs; fill may add to its store before it serves. */
export async function serve({ logs, fill = null }) {
  const dir = mkdtempSync(join(tmpdir(), "weir-ui-"));
  const store = join(dir, "weir.db");
  const config = join(dir, "weir.yaml");
  writeFileSync(config, `collect:\n${logs.map((l) => `  - file: ${l}\n`).join("")}`);
  const args = ["run", "-c", config, "--store", store, "--listen", "127.0.0.1:0"];
  let printed = "";
  const take = (text) => (printed += text);
  let running = await start(args, dir, take);
  await settled(running.base);
  if (fill) {
    await running.stop();
    fill(store);
    running = await start(args, dir, take);
  }
  return {
    base: running.base,
    pid: running.pid,
    printed: () => printed,
    user: (name, password, role) => execFileSync(weir, ["user", "add", "--store", store, name, "--role", role], { cwd: dir, input: password + "\n" }),
    stop: async () => {
      await running.stop();
      if (existsSync(dir)) rmSync(dir, { recursive: true, force: true });
    },
  };
}
