// Starts a real weir on the sample log with a store of its own, for the tests.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("../../../", import.meta.url).pathname;

/** serve resolves to { base, token(role), stop, printed, dir } once weir is ready. */
export async function serve({ weir = join(root, "bin/weir"), logs = [join(root, "cmd/weir/testdata/sample.log.gz")], config = "", token = null } = {}) {
  const dir = mkdtempSync(join(tmpdir(), "weir-ui-"));
  const store = join(dir, "weir.db");
  const args = ["run", "--store", store, "--listen", "127.0.0.1:0"];
  if (config) {
    writeFileSync(join(dir, "weir.yaml"), config);
    args.push("-c", join(dir, "weir.yaml"));
  }
  const child = spawn(weir, [...args, ...logs], { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  const base = await new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error("weir did not start:\n" + printed)), 60_000);
    const take = (chunk) => {
      printed += chunk;
      const m = /weir is running.*"http": "([^"]+)"/.exec(printed);
      if (m) {
        clearTimeout(timer);
        done(m[1]);
      }
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("exit", (code) => fail(new Error(`weir ended with ${code}:\n${printed}`)));
  });
  return {
    base,
    dir,
    store,
    printed: () => printed,
    cli: (...a) => execFileSync(weir, a, { cwd: dir, encoding: "utf8" }),
    stop: () =>
      new Promise((done) => {
        child.removeAllListeners("exit");
        child.on("exit", () => {
          rmSync(dir, { recursive: true, force: true });
          done();
        });
        child.kill("SIGTERM");
      }),
  };
}
