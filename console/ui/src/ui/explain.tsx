// Explanations: weir detects what is stored over again, beside its work, and says
// why a client did not alert, or which requests carry an alert's evidence.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Button } from "react-aria-components";
import { ask, Problem } from "../api/client";
import type { Explained, ExplainedClient, Explanation } from "../api/types";
import { decimal, duration, integer, plural, word } from "../lib/format";
import { Link } from "../lib/router";
import { amount, signalText } from "../lib/signals";
import { toastProblem } from "../lib/toast";
import { Failure, Section, SeverityMark, Time } from "./bits";

export type Wanted = { client: string; since?: string; until?: string } | { alert: string } | { line: string };

const over = (state: string) => state === "done" || state === "failed" || state === "cancelled";

/** useExplanation asks for one while wanted is not null, and follows it until it is there. */
export function useExplanation(wanted: Wanted | null) {
  const client = useQueryClient();
  const key = ["explain", wanted];
  const started = useQuery({
    queryKey: key,
    queryFn: () => ask<{ id: string }>("/api/v1/explanations", { method: "POST", body: wanted }),
    enabled: wanted !== null,
    staleTime: Infinity,
    gcTime: 30 * 60_000,
    refetchOnWindowFocus: false,
    retry: false,
  });
  const id = started.data?.id ?? "";
  const job = useQuery({
    queryKey: ["explanation", id],
    queryFn: ({ signal }) => ask<Explanation>(`/api/v1/explanations/${encodeURIComponent(id)}`, { signal }),
    enabled: id !== "",
    staleTime: Infinity,
    gcTime: 30 * 60_000,
    refetchOnWindowFocus: false,
    refetchInterval: (q) => (q.state.data && over(q.state.data.state) ? false : q.state.error ? false : 700),
  });
  const again = () => void client.resetQueries({ queryKey: key, exact: true });
  const cancel = () =>
    void ask(`/api/v1/explanations/${encodeURIComponent(id)}`, { method: "DELETE" })
      .then(() => job.refetch())
      .catch((e: unknown) => toastProblem("It goes on", e));
  return { error: started.error ?? job.error, job: job.data, answer: job.data?.answer ?? null, again, cancel };
}

type Job = ReturnType<typeof useExplanation>;

function Elapsed() {
  const [began] = useState(() => Date.now());
  const [now, setNow] = useState(began);
  useEffect(() => {
    const t = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(t);
  }, []);
  return <>{duration((now - began) / 1000)}</>;
}

/** Working says how far an explanation is, or why there is none; null once it is there. */
export function Working({ of }: { of: Job }) {
  if (of.error) {
    const gone = of.error instanceof Problem && of.error.status === 404;
    return <Failure error={of.error} what={gone ? "There is no explanation" : "It cannot be explained now"} retry={of.again} />;
  }
  const state = of.job?.state;
  if (state === "failed" || state === "cancelled") return <Failure error={new Error(of.job?.error || word(state))} what="It was not explained" retry={of.again} />;
  if (state === "done") return null;
  return (
    <div className="working" role="status">
      <progress className="progress" aria-label="Explaining" />
      <p className="muted">
        {state === "waiting" ? "Waiting for the explanations before it" : "Detecting what is stored over again"}, <Elapsed />. Detection goes on beside it.
      </p>
      {of.job && (
        <Button className="button small" onPress={of.cancel}>
          Cancel
        </Button>
      )}
    </div>
  );
}

const heads: Record<ExplainedClient["why"]["code"], string> = {
  alerted: "It did alert",
  suppressed: "It did alert, and a suppression keeps that from everybody",
  information: "It did alert, as information only",
  shadow: "A detector in shadow mode found it, and tells nobody",
  off: "The detector that would have found it is off",
  excused: "Everybody was refused there at that time",
  proxy: "Many people seem to be behind this address",
  evicted: "It made room for stronger cases",
  pending: "It is not told yet",
  few: "It did too little to be looked at closely",
  nothing: "No detector counted anything against it",
  below: "It came near, and not far enough",
  unlearned: "Nobody knows whether its logins failed",
  unknown: "weir has no request of it",
};

/** Nearness draws evidence against the lines of review and page. */
export function Nearness({ nats, review, page, label, most = nats }: { nats: number; review: number; page: number; label: string; most?: number }) {
  const top = Math.max(page * 1.15, most * 1.02);
  const x = (v: number) => Math.min(100, (Math.max(0, v) / top) * 100);
  return (
    <svg className="nearness" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label={label}>
      <rect className="track" x="0" y="3" width="100" height="6" />
      <rect className={nats >= review ? "amount enough" : "amount"} x="0" y="3" width={x(nats)} height="6" />
      <line className="mark" x1={x(review)} x2={x(review)} y1="0" y2="12" />
      <line className="mark page" x1={x(page)} x2={x(page)} y1="0" y2="12" />
    </svg>
  );
}

export function ClientView({ c }: { c: ExplainedClient }) {
  const [all, setAll] = useState(false);
  const counted = c.detectors.filter((d) => d.counted > 0);
  const shown = all ? c.detectors : counted;
  const most = Math.max(...c.detectors.map((d) => d.nats), 0);
  const text = /^[a-z]+ /.test(c.why.text) || /^[a-z]+:/.test(c.why.text) ? c.why.text.charAt(0).toUpperCase() + c.why.text.slice(1) : c.why.text;
  return (
    <div className="explained">
      <h3 className="verdict">{heads[c.why.code]}</h3>
      {c.why.code !== "alerted" && c.why.code !== "unknown" && text && <p>{text.endsWith(".") ? text : text + "."}</p>}
      {c.why.detector && c.why.code !== "alerted" && (
        <p className="muted">
          Detector <Link to={`/detectors?name=${encodeURIComponent(c.why.detector)}`}>{c.why.detector}</Link>
        </p>
      )}
      {c.alerts.length > 0 && (
        <ul className="plain-list">
          {c.alerts.map((a) => (
            <li key={a.id}>
              <SeverityMark of={a.severity} /> <Link to={`/alerts/${a.id}`}>{a.title}</Link>
              {a.hidden && <div className="second">{a.hidden}</div>}
            </li>
          ))}
        </ul>
      )}
      {c.notes.length > 0 && (
        <ul className="notes">
          {c.notes.map((n) => (
            <li key={n}>{n}</li>
          ))}
        </ul>
      )}
      {!c.whole && <p className="notice">The store no longer holds its first requests: what the client did before them is missing here.</p>}
      {c.looked_at > 0 && (
        <p className="muted">
          {plural(c.looked_at, "request")} looked at closely, <Time at={c.first} /> to <Time at={c.last} />.
        </p>
      )}
      {shown.length > 0 && (
        <div className="table-box" tabIndex={0} role="region" aria-label="How near each detector came">
          <table className="near">
            <thead>
              <tr>
                <th scope="col">Detector</th>
                <th scope="col" className="num">
                  Evidence
                </th>
                <th scope="col" className="wide-only chart">
                  against review ({decimal(c.review_at)}) and page ({decimal(c.page_at)}), in nats
                </th>
                <th scope="col" className="num">
                  Counted
                </th>
                <th scope="col" className="wide-only">
                  The most at
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.map((d) => (
                <tr key={d.detector}>
                  <th scope="row">
                    <Link to={`/detectors?name=${encodeURIComponent(d.detector)}`}>{d.detector}</Link>
                    {d.mode !== "on" && <span className={`mode mode-${d.mode}`}> {d.mode}</span>}
                  </th>
                  <td className="num">
                    {d.counted ? `${decimal(d.nats)} nats` : "–"}
                    {d.counted > 0 && d.nats < c.review_at && <span className="second">{decimal(c.review_at - d.nats)} missing</span>}
                  </td>
                  <td className="wide-only chart">
                    <Nearness nats={d.nats} most={most} review={c.review_at} page={c.page_at} label={`${decimal(d.nats)} nats of evidence; review begins at ${decimal(c.review_at)}, a page at ${decimal(c.page_at)}`} />
                    {d.signals.length > 0 && (
                      <span className="second">
                        at the end: {d.signals.map((s) => `${signalText(s.name)}: ${amount(s.name, s.observed)}, ${amount(s.name, s.expected)} expected`).join("; ")}
                      </span>
                    )}
                  </td>
                  <td className="num">{d.counted ? plural(d.counted, "request") : "nothing"}</td>
                  <td className="wide-only">
                    <Time at={d.time} />
                    {d.request && <span className="second mono break">{d.request}</span>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {c.looked_at > 0 && counted.length < c.detectors.length && (
        <Button className="link" onPress={() => setAll(!all)} aria-expanded={all}>
          {all ? "Only those that counted something" : `All ${integer(c.detectors.length)} detectors`}
        </Button>
      )}
    </div>
  );
}

export function AlertView({ a }: { a: NonNullable<Explained["alert"]> }) {
  return (
    <div className="explained">
      {a.total === 0 ? (
        <p>No single request could be traced: this detector joins what several clients did. The alert's examples are on its page.</p>
      ) : (
        <p>
          {plural(a.total, "request")} {a.total === 1 ? "carries" : "carry"} evidence. {a.still ? "Without them the alert still fires: others carry evidence, too." : "weir tried it: without them the alert does not fire."}
        </p>
      )}
      {!a.whole && <p className="notice">The store no longer holds its first requests: evidence from them is missing here.</p>}
      {a.events.length > 0 && (
        <div className="table-box tall" tabIndex={0} role="region" aria-label="Requests that carry evidence">
          <table className="requests">
            <thead>
              <tr>
                <th scope="col">Time</th>
                <th scope="col" className="num">
                  Adds (nats)
                </th>
                <th scope="col">Request</th>
                <th scope="col" className="wide-only">
                  From
                </th>
                <th scope="col" className="wide-only">
                  Source
                </th>
              </tr>
            </thead>
            <tbody>
              {a.events.map((e, i) => (
                <tr key={i}>
                  <td className="nowrap">
                    <Time at={e.time} />
                  </td>
                  <td className="num" title={e.nats === null ? "Adds nothing here, but would if those before it were not there" : undefined}>
                    {e.nats === null ? "(spare)" : `${e.nats >= 0 ? "+" : "−"}${Math.abs(e.nats).toFixed(2)}`}
                  </td>
                  <td className="mono break">{e.request}</td>
                  <td className="mono wide-only">{e.address}</td>
                  <td className="mono muted wide-only">{e.source}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {a.total > a.events.length && <p className="muted">The first {integer(a.events.length)} of them are here.</p>}
    </div>
  );
}

export function LineView({ l }: { l: NonNullable<Explained["line"]> }) {
  return (
    <dl className="reading">
      <div>
        <dt>format</dt>
        <dd>{l.format}</dd>
      </div>
      {l.rejected && (
        <div>
          <dt>not read</dt>
          <dd className="bad">{l.rejected}</dd>
        </div>
      )}
      {l.fields.map((f, i) => (
        <div key={i}>
          <dt>{f.name}</dt>
          <dd className="break">{f.value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** ClientExplained is a section of a client's page; it asks only when it is told to. */
export function ClientExplained({ kind, value, since, until }: { kind: string; value: string; since?: string; until?: string }) {
  const [wanted, setWanted] = useState<Wanted | null>(null);
  const x = useExplanation(wanted);
  return (
    <Section title="Why did it not fire?" aside={<Link to={`/explain?client=${encodeURIComponent(`${kind}:${value}`)}`}>On a page of its own</Link>}>
      {!wanted && (
        <>
          <p className="muted">How near each detector came, what was missing, and what hid it: a suppression, a list, shadow mode.</p>
          <Button className="button" onPress={() => setWanted({ client: `${kind}:${value}`, ...(since ? { since } : {}), ...(until ? { until } : {}) })}>
            Explain
          </Button>
        </>
      )}
      {wanted && <Working of={x} />}
      {x.answer?.client && <ClientView c={x.answer.client} />}
    </Section>
  );
}

