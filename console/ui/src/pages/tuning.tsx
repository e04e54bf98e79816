// Tuning: another configuration against what is stored, and applying it.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Button, Label, TextArea, TextField } from "react-aria-components";
import { ask, Problem } from "../api/client";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import { diff, near } from "../lib/diff";
import { setQuery, useQueryParam } from "../lib/router";
import { toast } from "../lib/toast";
import { withMode } from "../lib/yaml";
import { Outcome } from "../ui/backtest";
import { Section } from "../ui/bits";
import { showDialog } from "../ui/dialogs";
import { Answer, Page } from "../ui/page";

interface Config {
  yaml: string;
  hash: string;
  path: string;
  changed: boolean;
}

export function Diff({ before, after }: { before: string; after: string }) {
  const lines = useMemo(() => near(diff(before, after), 3), [before, after]);
  if (lines.every((l) => l === null)) return <p className="muted">It is as the running one.</p>;
  return (
    <pre className="diff" tabIndex={0} aria-label="What changes in the configuration">
      {lines.map((l, i) =>
        l === null ? (
          <span key={i} className="muted">
            {"  …\n"}
          </span>
        ) : (
          <span key={i} className={l.kind}>
            {{ same: "  ", gone: "- ", new: "+ " }[l.kind]}
            {l.text}
            {"\n"}
          </span>
        ),
      )}
    </pre>
  );
}


interface Change {
  path: string;
  old: string;
  new: string;
}

/** Values says which values differ, as weir reads the text; or why it is no configuration. */
function Values({ text }: { text: string }) {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const t = setTimeout(() => setSettled(text), 400);
    return () => clearTimeout(t);
  }, [text]);
  const q = useQuery({
    queryKey: ["config-diff", settled],
    queryFn: ({ signal }) => ask<{ changes: Change[] }>("/api/v1/config/diff", { method: "POST", body: { yaml: settled }, signal }),
    retry: false,
  });
  if (q.error)
    return (
      <pre className="bad problem" role="status">
        {q.error.message}
      </pre>
    );
  if (!q.data || q.data.changes.length === 0) return null;
  return (
    <ul className="plain-list values">
      {q.data.changes.map((c) => (
        <li key={c.path}>
          <span className="mono break">{c.path}</span> <span className="break">{c.old || "as shipped"}</span> → <strong className="break">{c.new || "as shipped"}</strong>
        </li>
      ))}
    </ul>
  );
}

// What is being written stays while other pages are looked at, such as an alert
// that would be lost. base is what it began from: a change is made to that alone.
interface Draft {
  text: string;
  base: Config;
  tried: string; // the text of the last backtest
  backtest: string;
}
let draft: Draft | null = null;

function useDraft(now: Config): [Draft, (change: Partial<Draft>) => void] {
  const [d, setD] = useState<Draft>(() => (draft && draft.text !== draft.base.yaml ? draft : { text: now.yaml, base: now, tried: "", backtest: "" }));
  const set = (change: Partial<Draft>) => setD((was) => (draft = { ...was, ...change }));
  // Nothing was written yet: what runs now is what it begins from.
  if (d.base.hash !== now.hash && d.text === d.base.yaml) set({ text: now.yaml, base: now });
  return [d, set];
}

function Applying({ d, backtest, close, done, failed }: { d: Draft; backtest: string; close: () => void; done: (restart: string) => void; failed: (e: unknown) => void }) {
  return (
    <div>
      <Diff before={d.base.yaml} after={d.text} />
      <p>It takes effect without losing what is known of clients. The audit keeps who applied it, and the backtest it rests on.</p>
      <footer>
        <Button className="button" onPress={close}>
          Cancel
        </Button>
        <Button
          className="button primary"
          autoFocus
          onPress={() => {
            close();
            ask<{ restart: string }>("/api/v1/config/apply", { method: "POST", body: { yaml: d.text, backtest, if_hash: d.base.hash } })
              .then((made) => done(made.restart))
              .catch(failed);
          }}
        >
          Apply
        </Button>
      </footer>
    </div>
  );
}

function Editor({ now }: { now: Config }) {
  const client = useQueryClient();
  const mayApply = useMay("config");
  const [d, set] = useDraft(now);
  const [problem, setProblem] = useState("");
  const wish = useQueryParam("set");
  const id = useQueryParam("backtest");
  useEffect(() => {
    // A knob of another page, like ?set=scrape.crawl:shadow.
    const [name, mode] = wish.split(":");
    if (!name || !mode || !/^[a-z0-9_.]+$/.test(name) || !/^(on|shadow|off)$/.test(mode)) return;
    set({ text: withMode(d.text, name, mode) });
    setQuery({ set: null, backtest: null }, { replace: true });
    // The wish is taken once.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [wish]);
  const overtaken = d.base.hash !== now.hash;
  const same = d.text === d.base.yaml;
  const run = async () => {
    setProblem("");
    try {
      const made = await ask<{ id: string }>("/api/v1/backtests", { method: "POST", body: { config: d.text } });
      set({ tried: d.text, backtest: made.id });
      setQuery({ backtest: made.id });
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  const reread = () => void client.invalidateQueries({ queryKey: ["config"] });
  const apply = (backtest: string) =>
    showDialog(
      "Apply this configuration?",
      (close) => (
        <Applying
          d={d}
          backtest={backtest}
          close={close}
          done={(restart) => {
            toast(restart ? `Applied; ${restart}` : "Applied.");
            draft = null;
            set({ text: d.text, base: { ...d.base, yaml: d.text } });
            reread();
          }}
          failed={(e) => {
            setProblem(e instanceof Problem ? e.message : String(e));
            reread();
          }}
        />
      ),
      { wide: true },
    );
  const mine = id !== "" && id === d.backtest && d.tried === d.text;
  return (
    <>
      {overtaken && (
        <div className="notice" role="alert">
          <p>
            <strong>Somebody applied another configuration while you wrote.</strong> Yours is not applied over it. What they changed:
          </p>
          <Diff before={d.base.yaml} after={now.yaml} />
          <p className="chips">
            <Button className="button small" onPress={() => set({ text: now.yaml, base: now, tried: "" })}>
              Begin anew from theirs
            </Button>
            <Button className="button small" onPress={() => set({ base: now, tried: "" })}>
              Keep my text and compare it with theirs
            </Button>
          </p>
        </div>
      )}
      <div className="tuning">
        <Section
          title="Configuration"
          aside={
            <span className="chips">
              <Button className="button small" isDisabled={same} onPress={() => set({ text: now.yaml, base: now, tried: "" })}>
                As it runs
              </Button>
              <Button className="button primary" isDisabled={same || overtaken} onPress={() => void run()}>
                Try on what is stored
              </Button>
            </span>
          }
        >
          <TextField value={d.text} onChange={(text) => set({ text })} className="editor" aria-label="Configuration">
            <Label className="sr-only">Configuration as YAML</Label>
            <TextArea rows={22} spellCheck="false" className="mono" />
          </TextField>
          {problem && (
            <pre className="bad problem" role="alert">
              {problem}
            </pre>
          )}
        </Section>
        <Section title="What changes">
          {!same && <Values text={d.text} />}
          <Diff before={d.base.yaml} after={d.text} />
        </Section>
      </div>
      {id && id === d.backtest && d.tried !== d.text && !same && <p className="notice">The text was changed after this backtest: try it again before it is applied.</p>}
      {id && <Outcome key={id} id={id} apply={mayApply && now.path && !same && !overtaken && mine ? apply : null} />}
    </>
  );
}

export default function TuningPage() {
  const q = usePart<Config>(["config"], "/api/v1/config", {}, { every: 30_000 });
  return (
    <Page title="Tuning" lead="Change a copy of the configuration, try it on the stored history, look at the alerts gained and lost, then apply it.">
      <Answer of={q} what="The configuration">
        {(c) => (
          <>
            {!c.path && <p className="notice">weir was started without a configuration file: changes can be tried, and applied once it has one (weir run -c weir.yaml).</p>}
            {c.changed && <p className="notice">The file was changed by hand since weir read it: apply that first (SIGHUP), then try a change here.</p>}
            <Editor now={c} />
          </>
        )}
      </Answer>
    </Page>
  );
}
