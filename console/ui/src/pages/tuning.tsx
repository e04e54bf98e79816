// Tuning: another configuration against what is stored, and applying it.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Button, Label, TextArea, TextField } from "react-aria-components";
import { ask, Problem } from "../api/client";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import type { Severity } from "../api/types";
import { decimal, duration, integer, plural, word } from "../lib/format";
import { diff, near } from "../lib/diff";
import { Link, setQuery, useQueryParam } from "../lib/router";
import { toast } from "../lib/toast";
import { Section, SeverityMark, Time, verdictText } from "../ui/bits";
import { showDialog } from "../ui/dialogs";
import { Answer, Page } from "../ui/page";

interface Both<T> {
  old: T;
  new: T;
}

interface Changed {
  id: string;
  detector: string;
  severity: Severity;
  title: string;
  detected_at: string;
  verdict?: string;
  why?: string;
  changed?: string[];
  was?: { id: string; severity: Severity; detected_at: string };
}

interface Result {
  requests?: number;
  days?: number;
  gained: Changed[];
  lost: Changed[];
  moved: Changed[];
  gained_total?: number;
  lost_total?: number;
  moved_total?: number;
  same?: number;
  alerts?: Both<number>;
  pages?: Both<number>;
  alerts_a_day: Both<number>;
  pages_a_day?: Both<number>;
  precision: Both<number | null>;
  recall: Both<number | null>;
  delay: Both<number | null>;
  basis?: string;
  notes?: string[];
}

interface Backtest extends Partial<Result> {
  id: string;
  state: string;
  progress: number | null;
  error?: string;
  result?: Result | null;
}

const done = (state: string) => ["done", "failed", "cancelled", "stopped"].includes(state);

function Compare({ r }: { r: Result }) {
  const share = (v: number | null | undefined) => (v === null || v === undefined ? "nothing to judge by" : `${Math.round(v * 1000) / 10} %`);
  const lines: [string, string, string][] = [];
  if (r.alerts) lines.push(["Alerts", integer(r.alerts.old), integer(r.alerts.new)]);
  if (r.pages) lines.push(["Pages", integer(r.pages.old), integer(r.pages.new)]);
  lines.push(["Alerts a day", decimal(r.alerts_a_day.old), decimal(r.alerts_a_day.new)]);
  if (r.pages_a_day) lines.push(["Pages a day", decimal(r.pages_a_day.old), decimal(r.pages_a_day.new)]);
  lines.push(["Precision", share(r.precision.old), share(r.precision.new)]);
  lines.push(["Recall", share(r.recall.old), share(r.recall.new)]);
  const delay = (v: number | null) => (v === null ? "not known" : duration(v));
  lines.push(["Delay of detection", delay(r.delay.old), delay(r.delay.new)]);
  return (
    <table className="plain compare">
      <thead>
        <tr>
          <td />
          <th scope="col" className="num">Running</th>
          <th scope="col" className="num">New</th>
        </tr>
      </thead>
      <tbody>
        {lines.map(([name, a, b]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td className="num">{a}</td>
            <td className={a === b ? "num muted" : "num strong"}>{b}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function ChangedList({ title, list, total, tone, stored }: { title: string; list: Changed[]; total: number; tone: string; stored: boolean }) {
  return (
    <Section title={`${title} (${integer(total)})`}>
      {list.length === 0 && <p className="muted">None.</p>}
      <ul className={`lines changed ${tone}`}>
        {list.map((c) => (
          <li key={c.id + c.detected_at}>
            <SeverityMark of={c.severity} />
            {stored ? <Link to={`/alerts/${c.was?.id ?? c.id}`}>{c.title}</Link> : <span>{c.title}</span>}
            <span className="muted">
              <Time at={c.detected_at} />
            </span>
            <span className="muted">{c.verdict ? verdictText(c.verdict) : "no verdict"}</span>
            <span className="second">
              {c.why}
              {c.changed?.length ? ` ${c.changed.map(word).join(", ")} changed` : ""}
            </span>
          </li>
        ))}
      </ul>
      {total > list.length && <p className="muted">and {integer(total - list.length)} more</p>}
    </Section>
  );
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

function Outcome({ id, apply }: { id: string; apply: ((backtest: string) => void) | null }) {
  const q = useQuery({
    queryKey: ["backtest", id],
    queryFn: ({ signal }) => ask<Backtest>(`/api/v1/backtests/${encodeURIComponent(id)}`, { signal }),
    refetchInterval: (x) => (x.state.data && done(x.state.data.state) ? false : 1000),
  });
  return (
    <Answer of={q} what="The backtest">
      {(b) => {
        const r = b.result ?? (b.gained && b.alerts_a_day ? (b as unknown as Result) : null);
        if (!done(b.state)) {
          return (
            <Section title="Running over what is stored">
              <progress className="progress" max={1} value={b.progress ?? undefined} aria-label="Progress of the backtest" />
              <p className="muted">{b.progress !== null ? `${Math.round(b.progress * 100)} %` : word(b.state)}</p>
            </Section>
          );
        }
        if (!r) {
          return (
            <p className="failure" role="alert">
              The backtest {word(b.state)}: {b.error || "no reason is known"}
            </p>
          );
        }
        return (
          <>
            <Section
              title="What would change"
              aside={
                apply && (
                  <Button className="button primary" onPress={() => apply(id)}>
                    Apply …
                  </Button>
                )
              }
            >
              <p>
                {plural(r.gained_total ?? r.gained.length, "alert")} more, {integer(r.lost_total ?? r.lost.length)} fewer, {integer(r.moved_total ?? r.moved.length)} changed
                {r.same !== undefined && `, ${integer(r.same)} the same`}
                {r.requests ? `; over ${plural(r.requests, "request")}` : ""}
                {r.days ? ` of ${decimal(r.days)} days` : ""}.
              </p>
              <Compare r={r} />
              {r.basis && <p className="muted">Precision and recall are by {r.basis}.</p>}
              {r.notes?.map((n) => (
                <p key={n} className="notice">
                  {n}
                </p>
              ))}
            </Section>
            <ChangedList title="Gained" list={r.gained} total={r.gained_total ?? r.gained.length} tone="gained" stored={false} />
            <ChangedList title="Lost" list={r.lost} total={r.lost_total ?? r.lost.length} tone="lost" stored />
            <ChangedList title="Moved" list={r.moved} total={r.moved_total ?? r.moved.length} tone="moved" stored />
          </>
        );
      }}
    </Answer>
  );
}

function Editor({ yaml, hash, path }: { yaml: string; hash: string; path: string }) {
  const client = useQueryClient();
  const mayApply = useMay("config");
  const [text, setText] = useState(yaml);
  const [base, setBase] = useState(yaml);
  const [problem, setProblem] = useState("");
  const [tried, setTried] = useState<string | null>(null);
  const id = useQueryParam("backtest");
  useEffect(() => {
    if (yaml === base) return;
    // The running one changed: keep what is being written, compare with the new.
    if (text === base) setText(yaml);
    setBase(yaml);
  }, [yaml, base, text]);
  const run = async () => {
    setProblem("");
    try {
      const made = await ask<{ id: string }>("/api/v1/backtests", { method: "POST", body: { config: text } });
      setTried(text);
      setQuery({ backtest: made.id });
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  const apply = (backtest: string) =>
    showDialog(
      "Apply this configuration?",
      (close) => (
        <div>
          <Diff before={yaml} after={text} />
          <p>It takes effect without losing what is known of clients. The audit keeps who applied it, and the backtest it rests on.</p>
          <footer>
            <Button className="button" onPress={close}>
              Cancel
            </Button>
            <Button
              className="button primary"
              onPress={() => {
                close();
                ask<{ restart: string }>("/api/v1/config/apply", { method: "POST", body: { yaml: text, backtest, if_hash: hash } })
                  .then((made) => {
                    toast(made.restart ? `Applied; ${made.restart}` : "Applied.");
                    void client.invalidateQueries({ queryKey: ["config"] });
                  })
                  .catch((e: unknown) => setProblem(e instanceof Problem ? e.message : String(e)));
              }}
            >
              Apply
            </Button>
          </footer>
        </div>
      ),
      { wide: true },
    );
  return (
    <>
      <div className="tuning">
        <Section
          title="Configuration"
          aside={
            <span className="chips">
              <Button className="button small" isDisabled={text === yaml} onPress={() => setText(yaml)}>
                As it runs
              </Button>
              <Button className="button primary" isDisabled={text === yaml} onPress={() => void run()}>
                Try on what is stored
              </Button>
            </span>
          }
        >
          <TextField value={text} onChange={setText} className="editor" aria-label="Configuration">
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
          <Diff before={yaml} after={text} />
        </Section>
      </div>
      {id && <Outcome key={id} id={id} apply={mayApply && path && text !== yaml && (tried === null || tried === text) ? apply : null} />}
    </>
  );
}

export default function TuningPage() {
  const q = usePart<{ yaml: string; hash: string; path: string; changed: boolean }>(["config"], "/api/v1/config");
  return (
    <Page title="Tuning" lead="Change a copy of the configuration, try it on the stored history, look at the alerts gained and lost, then apply it.">
      <Answer of={q} what="The configuration">
        {(c) => (
          <>
            {!c.path && <p className="notice">weir was started without a configuration file: changes can be tried, and applied once it has one (weir run -c weir.yaml).</p>}
            {c.changed && <p className="notice">The file was changed by hand since weir read it.</p>}
            <Editor yaml={c.yaml} hash={c.hash} path={c.path} />
          </>
        )}
      </Answer>
    </Page>
  );
}
