// What a backtest came to: alerts gained, lost and moved, and what they are worth.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Button } from "react-aria-components";
import { ask } from "../api/client";
import type { Severity } from "../api/types";
import { decimal, duration, integer, plural, word } from "../lib/format";
import { Link } from "../lib/router";
import { toastProblem } from "../lib/toast";
import { Section, SeverityMark, Time, verdictText } from "./bits";
import { Answer } from "./page";

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

export function Outcome({ id, apply }: { id: string; apply: ((backtest: string) => void) | null }) {
  const client = useQueryClient();
  const cancel = () =>
    void ask(`/api/v1/backtests/${encodeURIComponent(id)}`, { method: "DELETE" })
      .then(() => client.invalidateQueries({ queryKey: ["backtest", id] }))
      .catch((e: unknown) => toastProblem("It goes on", e));
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
            <Section
              title="Running over what is stored"
              aside={
                <Button className="button small" onPress={cancel}>
                  Cancel
                </Button>
              }
            >
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
