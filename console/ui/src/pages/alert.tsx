// One alert: the reason first, then who, what came of it, what to do, and the
// evidence.
import { useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useMemo, useState } from "react";
import { Button } from "react-aria-components";
import { useActions } from "../alerts/actions";
import { goingOn } from "../alerts/row";
import { AlertLines } from "../alerts/grouped";
import { lastList } from "../alerts/list";
import { AccountName, RevealButton } from "../alerts/reveal";
import { SuppressButton, suppressFrom, useLatest } from "../alerts/suppress";
import type { Target } from "../alerts/triage";
import { isMissing } from "../api/client";
import { useLive } from "../api/live";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import type { Alert, ApiRequest, AuditEntry, Delivery, PrincipalPage, Related, RevisionRow, Triage } from "../api/types";
import { bytes, duration, integer, plural, word } from "../lib/format";
import { classText } from "../lib/names";
import { Link, navigate } from "../lib/router";
import { useShortcuts } from "../lib/shortcuts";
import { toast, undoLast } from "../lib/toast";
import { Copy, Fact, Facts, Failure, Loading, PrincipalLink, Section, SeverityMark, Time, TriageMark, verdictText } from "../ui/bits";
import { Evidence } from "../ui/evidence";
import { Icon } from "../ui/icons";
import { RequestTable } from "../ui/requests";
import type { Bars } from "../ui/timeline";

const Timeline = lazy(() => import("../ui/timeline"));

export function triageOf(a: Alert): Triage {
  const t = a.envelope.triage as Partial<Triage>;
  return { revision: t.revision ?? 0, status: t.status ?? "new", assignee: t.assignee ?? "", verdict: t.verdict ?? "", tags: t.tags ?? [], comments: t.comments ?? [], time: t.time ?? "", who: t.who ?? "" };
}

function succeeded(a: Alert) {
  const o = a.outcome;
  if (o.succeeded === null) return <span className="unknown">Not known: what failure looks like here is not learned yet</span>;
  if (o.succeeded === 0) return <>No, none of {plural(o.attempted, "attempt")}</>;
  return (
    <strong className="worked">
      Yes: {integer(o.succeeded)} of {plural(o.attempted, "attempt")}
    </strong>
  );
}

function people(p: number[] | null | undefined): string {
  if (!p || p.length < 2) return "not known";
  const [low = 0, high = 0] = p;
  if (low === high) return low === 1 ? "one, as far as can be seen" : integer(low);
  return `${integer(low)} to ${integer(high)}`;
}

function Who({ a }: { a: Alert }) {
  const c = a.context;
  const place = [c.network, c.asn, c.country].filter(Boolean).join(" · ");
  return (
    <Facts>
      <Fact name={a.level === "campaign" ? "What they share" : "Who"}>
        <PrincipalLink of={a.principal} /> <Copy text={a.principal.value} label="Copy who" />
        {a.predicate && <div className="second">{a.predicate}</div>}
      </Fact>
      <Fact name="People behind it">{people(c.people)}</Fact>
      <Fact name="Network">{place || <span className="muted">not known</span>}</Fact>
      <Fact name="Did it succeed">{succeeded(a)}</Fact>
      <Fact name="Going on">
        {a.ongoing ? (
          <>
            {goingOn({ ongoing: true, last: a.window.last })}, {plural(a.rate_5m, "request")} in 5 min
          </>
        ) : (
          "quiet now"
        )}
      </Fact>
      <Fact name="When">
        <Time at={a.window.first} /> for {duration((Date.parse(a.window.last) - Date.parse(a.window.first)) / 1000)}
        <div className="second">
          found <Time at={a.window.detected_at} />, last <Time at={a.window.last} relative />
        </div>
      </Fact>
      {a.endpoint.template && (
        <Fact name="Where">
          <Link className="mono" to={`/endpoints/one?${new URLSearchParams({ method: a.endpoint.method, host: a.endpoint.host, template: a.endpoint.template })}`}>
            {a.endpoint.method} {a.endpoint.host}
            {a.endpoint.template}
          </Link>
        </Fact>
      )}
      <Fact name="Before">{c.prior_alerts ? plural(c.prior_alerts, "earlier alert") : "no earlier alert"}</Fact>
    </Facts>
  );
}

function Advice({ a }: { a: Alert }) {
  return (
    <Section title="What to do">
      {a.next.length > 0 ? (
        <ol className="next">
          {a.next.map((n) => (
            <li key={n}>{n}</li>
          ))}
        </ol>
      ) : (
        <p className="muted">Nothing by itself.</p>
      )}
      {a.benign_if.length > 0 && (
        <>
          <h3>Harmless if it is</h3>
          <ul>
            {a.benign_if.map((b) => (
              <li key={b}>{b}</li>
            ))}
          </ul>
        </>
      )}
      {a.would_not_fire_if && (
        <p className="muted">
          It would not have been raised if {a.would_not_fire_if}.
        </p>
      )}
    </Section>
  );
}

function Outcome({ a }: { a: Alert }) {
  const o = a.outcome;
  const { accounts, objects } = a.affected;
  return (
    <Section title="What was reached" aside={<RevealButton tokens={accounts.map((x) => x.name)} alert={a.id} />}>
      <Facts>
        <Fact name="Requests">{integer(o.requests)}</Fact>
        <Fact name="Succeeded">{o.succeeded === null ? <span className="unknown">not known</span> : integer(o.succeeded)}</Fact>
        <Fact name="Blocked">
          {o.blocked === null ? "not known" : integer(o.blocked)}
          {o.blocked_by && ` (${o.blocked_by})`}
        </Fact>
        <Fact name="Given out">{o.bytes === null ? "not known" : bytes(o.bytes)}</Fact>
        <Fact name="Accounts">{o.accounts === null ? "–" : integer(o.accounts)}</Fact>
        <Fact name="Objects">{integer(o.objects)}</Fact>
        <Fact name="Known from">{{ configured: "the configuration", learned: "what was learned", status: "status codes", unknown: "nothing" }[o.basis] ?? o.basis}</Fact>
      </Facts>
      {accounts.length > 0 && (
        <div className="table-box" tabIndex={0} role="region" aria-label="Accounts">
          <table className="plain">
            <thead>
              <tr>
                <th scope="col">Account</th>
                <th scope="col">Outcome</th>
                <th scope="col">Time</th>
                <th scope="col">Session</th>
              </tr>
            </thead>
            <tbody>
              {accounts.map((x, i) => (
                <tr key={i}>
                  <td>
                    <AccountName token={x.name} />
                  </td>
                  <td className={x.outcome === "success" ? "worked" : ""}>{x.outcome}</td>
                  <td>
                    <Time at={x.time} />
                  </td>
                  <td className="mono">{x.session || "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {objects.length > 0 && (
        <>
          <h3>Objects handed out</h3>
          <ul className="objects mono">
            {objects.map((x) => (
              <li key={x}>{x}</li>
            ))}
          </ul>
        </>
      )}
      {a.affected.truncated && <p className="muted">There are more than are listed.</p>}
    </Section>
  );
}

/** bucket counts requests by minute and class, for a weir that does not. */
function bucket(rows: ApiRequest[]): Omit<Bars, "mark"> | null {
  if (rows.length === 0) return null;
  const at = rows.map((r) => Math.floor(Date.parse(r.time) / 60_000));
  const start = Math.min(...at);
  const n = Math.max(...at) - start + 1;
  const names = ["2xx", "3xx", "4xx", "5xx", "other"];
  const layers = names.map(() => new Array<number>(n).fill(0));
  rows.forEach((r, i) => {
    const c = r.status === null ? 4 : Math.min(Math.max(Math.floor(r.status / 100) - 2, -1), 4);
    const layer = layers[c < 0 ? 4 : c];
    const k = (at[i] ?? start) - start;
    if (layer) layer[k] = (layer[k] ?? 0) + 1;
  });
  return { start: start * 60, step: 60, names, layers };
}

function Requests({ a }: { a: Alert }) {
  const may = useMay("requests");
  const person = a.level !== "endpoint" && a.level !== "campaign" && a.level !== "cohort";
  const pad = 15 * 60_000;
  const since = new Date(Date.parse(a.window.first) - pad).toISOString();
  const until = new Date(Date.parse(a.window.last) + pad).toISOString();
  const span = Date.parse(until) - Date.parse(since);
  const mark = { from: Date.parse(a.window.first) / 1000, to: Date.parse(a.window.last) / 1000 };
  const series = usePart<PrincipalPage>(
    ["principal-of", a.id, since, until],
    `/api/v1/principals/${a.principal.kind}/${encodeURIComponent(a.principal.value)}`,
    { since, until, step: span > 12 * 3600_000 ? "hour" : "minute" },
    { enabled: may && person },
  );
  const list = usePart<{ data: (ApiRequest & { evidence?: boolean })[]; more: boolean; evidence?: { marked: number; basis: string } }>(["requests-of", a.id, a.revision], `/api/v1/alerts/${a.id}/requests`, { limit: 200 }, { enabled: may });
  const plain = usePart<{ data: ApiRequest[]; more: boolean }>(
    ["requests-plain", a.id, since, until],
    "/api/v1/requests",
    { principal: `${a.principal.kind}:${a.principal.value}`, since, until, limit: 5000 },
    { enabled: may && person && series.data === null },
  );
  const [all, setAll] = useState(false);
  const bars = useMemo((): Bars | null => {
    const s = series.data?.series;
    if (s) {
      const errors = s.errors ?? s.requests.map(() => 0);
      return { start: Date.parse(s.start) / 1000, step: s.step_s, names: ["answered", "errors"], layers: [s.requests.map((n, i) => n - (errors[i] ?? 0)), errors], mark };
    }
    const b = plain.data && bucket(plain.data.data);
    return b ? { ...b, mark } : null;
    // The window is in the keys of what is read.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [series.data, plain.data]);
  const examples = a.exemplars.map((x) => ({ ...x, user_agent: x.agent }));
  const rows = list.data?.data.length ? list.data.data : examples;
  const shown = all ? rows : rows.slice(0, 12);
  return (
    <Section
      title="Requests"
      aside={
        <span className="muted">
          {list.data?.data.length ? `${integer(list.data.data.length)}${list.data.more ? " newest" : ""}` : `${integer(examples.length)} examples of ${integer(a.outcome.requests)}`}
        </span>
      }
    >
      {bars && (
        <Suspense fallback={<div className="plot" />}>
          <Timeline bars={bars} label={`Requests by ${bars.step >= 3600 ? "hour" : "minute"}`} />
        </Suspense>
      )}
      <RequestTable rows={shown} label="Requests" />
      {rows.length > shown.length && (
        <Button className="link" onPress={() => setAll(true)}>
          Show all {integer(rows.length)}
        </Button>
      )}
      {!may && <p className="muted">All requests are for analysts; these examples are kept with the alert.</p>}
    </Section>
  );
}

function Members({ a }: { a: Alert }) {
  if (a.members.length === 0 && !a.campaign) return null;
  return (
    <Section title={a.members.length ? `Members (${integer(a.members_total)})` : "Campaign"} aside={a.campaign && <Link to={`/campaigns/${a.campaign}`}>Open the campaign</Link>}>
      {a.estimate && (
        <p>
          About {integer(a.estimate.attempts)} of its requests were malicious (90 %: {integer(a.estimate.low)} to {integer(a.estimate.high)}).
        </p>
      )}
      {a.members.length > 0 ? (
        <ul className="members">
          {a.members.slice(0, 60).map((m) => (
            <li key={m.kind + m.value}>
              <PrincipalLink of={m} />
            </li>
          ))}
        </ul>
      ) : (
        <p className="muted">This alert belongs with others of one campaign.</p>
      )}
      {a.members_total > a.members.length && a.members.length > 0 && <p className="muted">and {integer(a.members_total - a.members.length)} more</p>}
    </Section>
  );
}

function RelatedList({ a }: { a: Alert }) {
  const q = usePart<{ data: Related[] }>(["related", a.id], `/api/v1/alerts/${a.id}/related`);
  if (!q.data || q.data.data.length === 0) return null;
  const why = new Map<string, Related[]>();
  for (const r of q.data.data) {
    const text = r.why.map((w) => `same ${w}`).join(", ");
    why.set(text, [...(why.get(text) ?? []), r]);
  }
  return (
    <Section title="Related alerts">
      {[...why].map(([text, list]) => (
        <div key={text}>
          <h3>{text}</h3>
          <AlertLines rows={list.map((r) => r.alert)} />
        </div>
      ))}
    </Section>
  );
}

function Classes({ a }: { a: Alert }) {
  const lists: [string, string[]][] = [
    ["MITRE ATT&CK", a.attack],
    ["OWASP API Security", a.owasp_api],
    ["OWASP automated threats", a.oat],
  ];
  return (
    <Section title="Classification">
      <Facts>
        <Fact name="Detector">
          <Link to={`/detectors?name=${a.detector}`}>{a.detector}</Link>
        </Fact>
        {lists.map(
          ([name, ids]) =>
            ids.length > 0 && (
              <Fact key={name} name={name}>
                {ids.map((id) => (
                  <div key={id}>
                    <span className="mono">{id}</span> {classText(id)}
                  </div>
                ))}
              </Fact>
            ),
        )}
        {Object.entries(a.labels)
          .filter(([, v]) => v)
          .map(([k, v]) => (
            <Fact key={k} name={k}>
              {v}
            </Fact>
          ))}
        {a.context.agents.length > 0 && (
          <Fact name="User agents">
            {a.context.agents.map((x) => (
              <div key={x} className="mono break">
                {x}
              </div>
            ))}
          </Fact>
        )}
        {a.context.ja4.length > 0 && (
          <Fact name="JA4">
            {a.context.ja4.map((x) => (
              <div key={x} className="mono break">
                {x}
              </div>
            ))}
          </Fact>
        )}
        <Fact name="Identity by">{a.quality.identity}</Fact>
        {(a.quality.sampled !== 1 || a.quality.late > 0 || a.quality.lost > 0) && (
          <Fact name="Quality">
            {a.quality.sampled !== 1 && `sampled at ${a.quality.sampled}; `}
            {a.quality.late > 0 && `${integer(a.quality.late)} late; `}
            {a.quality.lost > 0 && `${integer(a.quality.lost)} lost`}
          </Fact>
        )}
      </Facts>
      <details className="muted">
        <summary>Versions and id</summary>
        <p className="mono break">
          {a.id}.{a.revision} <Copy text={a.id} label="Copy the alert's id" />
          <br />
          weir {a.versions.weir}
          <br />
          {a.versions.config}
          <br />
          {a.versions.edition}
        </p>
      </details>
    </Section>
  );
}

const deliveryText: Record<Delivery["state"], string> = {
  delivered: "delivered", waiting: "waiting", retrying: "trying again", dead: "given up", not_routed: "not routed there", history: "history: not sent",
};

function Deliveries({ a }: { a: Alert }) {
  const q = usePart<{ data: Delivery[] }>(["deliveries", a.id, a.revision], `/api/v1/alerts/${a.id}/deliveries`);
  if (!q.data) return null;
  return (
    <Section title="Delivery">
      {q.data.data.length === 0 && <p className="muted">No sink is configured; the feed and this console have it.</p>}
      <ul className="plain-list">
        {q.data.data.map((d) => (
          <li key={d.sink} className={`delivery ${d.state}`}>
            <strong>{d.sink}</strong> <span className="muted">{d.kind}</span> {deliveryText[d.state] ?? d.state}
            {d.state === "delivered" && d.revision > 0 && ` (revision ${d.revision})`} {d.time && <Time at={d.time} relative />}
            {d.reason && <div className="second">{d.reason}</div>}
            {d.next && (
              <div className="second">
                next try <Time at={d.next} relative />, after {plural(d.attempts, "attempt")}
              </div>
            )}
          </li>
        ))}
      </ul>
    </Section>
  );
}

interface Event {
  time: string;
  who: string;
  text: string;
  quote?: string;
}

function changeText(e: AuditEntry): string {
  const b = (e.before ?? {}) as Partial<Triage>;
  const n = (e.after ?? {}) as Partial<Triage>;
  const parts: string[] = [];
  if (b.status !== n.status && n.status) parts.push(n.status === "closed" ? `closed as ${verdictText(n.verdict ?? "")}` : `set to ${word(n.status)}`);
  else if (b.verdict !== n.verdict && n.verdict) parts.push(`verdict ${verdictText(n.verdict)}`);
  if ((b.assignee ?? "") !== (n.assignee ?? "")) parts.push(n.assignee ? `assigned to ${n.assignee}` : "unassigned");
  if ((b.tags ?? []).join() !== (n.tags ?? []).join()) parts.push(`tags ${(n.tags ?? []).join(", ") || "none"}`);
  if (parts.length === 0) parts.push(e.action === "alert.triage" ? "commented" : word(e.action.replaceAll(".", " ")));
  return parts.join(", ") + (e.outcome && e.outcome !== "success" ? ` (${e.outcome})` : "");
}

/** Activity is what detection and people did, the latest first. */
function Activity({ a, revisions, triage }: { a: Alert; revisions: Alert[]; triage: Triage }) {
  const audit = usePart<{ data: AuditEntry[] }>(["audit-of", a.id], `/api/v1/alerts/${a.id}/audit`);
  const rows = usePart<{ data: RevisionRow[] }>(["revisions-of", a.id, a.revision], `/api/v1/alerts/${a.id}/revisions`);
  const events: Event[] = rows.data
    ? rows.data.data.map((r) => ({ time: r.time, who: "weir", text: r.change.kind === "opened" ? `opened, ${r.severity}` : `${word(r.change.kind)}: ${r.change.text}` }))
    : revisions.map((r) => ({ time: r.revision === 1 ? r.window.detected_at : r.window.last, who: "weir", text: r.change.kind === "opened" ? `opened, ${r.severity}` : `${word(r.change.kind)}: ${r.change.text}` }));
  if (audit.data) for (const e of audit.data.data) events.push({ time: e.time, who: e.who.name || e.who.id || e.who.kind, text: changeText(e), quote: e.reason || undefined });
  else for (const c of triage.comments) events.push({ time: c.time, who: c.who, text: "commented", quote: c.text });
  events.sort((x, y) => Date.parse(y.time) - Date.parse(x.time));
  return (
    <Section title="History">
      <ol className="activity">
        {events.map((e, i) => (
          <li key={i} className={e.who === "weir" ? "by-weir" : "by-people"}>
            <span className="muted">
              <Time at={e.time} />
            </span>{" "}
            <strong>{e.who}</strong> {e.text}
            {e.quote && <blockquote>{e.quote}</blockquote>}
          </li>
        ))}
      </ol>
    </Section>
  );
}

function Silenced({ a }: { a: Alert }) {
  const s = a.envelope.silence as { id?: string; reason?: string; author?: string; expires?: string; suppressed?: boolean };
  if (!s || Object.keys(s).length === 0 || s.suppressed === false) return null;
  return (
    <p className="notice">
      Suppressed{s.author && ` by ${s.author}`}
      {s.expires && (
        <>
          {" "}
          until <Time at={s.expires} />
        </>
      )}
      {s.reason && <>: {s.reason}</>} <Link to="/suppressions">All suppressions</Link>
    </p>
  );
}

function neighbour(id: string, by: number): string | null {
  const list = lastList();
  const i = list?.indexOf(id) ?? -1;
  const row = i >= 0 ? list?.shown.rows[i + by] : undefined;
  if (row && list) list.cursor = i + by;
  return row?.id ?? null;
}

function TriageBar({ a, triage }: { a: Alert; triage: Triage }) {
  const actions = useActions();
  const on: Target[] = [{ id: a.id, triage }];
  const go = (by: number) => {
    const id = neighbour(a.id, by);
    if (id) navigate(`/alerts/${id}`);
    else toast(by > 0 ? "This is the last one that is loaded." : "This is the first one.");
  };
  useShortcuts({
    j: () => go(1),
    k: () => go(-1),
    a: () => actions.assignMe(on),
    i: () => actions.progress(on),
    c: () => actions.close(on),
    m: () => actions.comment(on),
    t: () => actions.tag(on),
    s: () => suppressFrom(a.id),
    u: () => undoLast(),
    Escape: () => navigate("/alerts" + (lastList()?.search ?? "")),
  });
  return (
    <div className="triage-bar" role="toolbar" aria-label="Triage">
      <TriageMark status={triage.status} verdict={triage.verdict} />
      <span>{triage.assignee ? <>assigned to <strong>{triage.assignee}</strong></> : <span className="muted">nobody has it</span>}</span>
      {triage.tags.map((t) => (
        <Link key={t} className="flag tag" to={`/alerts?tag=${encodeURIComponent(t)}&triage=any`}>
          {t}
        </Link>
      ))}
      <span className="space" />
      {actions.may ? (
        <>
          {actions.me && triage.assignee !== actions.me && (
            <Button className="button" onPress={() => actions.assignMe(on)}>
              Assign to me
            </Button>
          )}
          <Button className="button" onPress={() => actions.assign(on)}>
            Assign …
          </Button>
          {triage.status === "new" && (
            <Button className="button" onPress={() => actions.progress(on)}>
              In progress
            </Button>
          )}
          <Button className="button" onPress={() => actions.comment(on)}>
            Comment …
          </Button>
          <Button className="button" onPress={() => actions.tag(on)}>
            Tag …
          </Button>
          <SuppressButton id={a.id} />
          {triage.status === "closed" ? (
            <Button className="button" onPress={() => actions.reopen(on)}>
              Reopen
            </Button>
          ) : (
            <Button className="button primary" onPress={() => actions.close(on)}>
              Close …
            </Button>
          )}
        </>
      ) : (
        <span className="muted">reading only</span>
      )}
    </div>
  );
}

export default function AlertPage({ id }: { id: string }) {
  const client = useQueryClient();
  const q = useLatest(id);
  const raw = client.getQueryData<{ data: Alert[] }>(["alert", id]);
  useLive({
    row: (r) => r.id === id && void client.invalidateQueries({ queryKey: ["alert", id] }),
    triage: (changed) => changed === id && void client.invalidateQueries({ predicate: (x) => (x.queryKey[0] === "alert" || x.queryKey[0] === "audit-of") && x.queryKey[1] === id }),
    reset: () => void client.invalidateQueries({ queryKey: ["alert", id] }),
  });
  const back = "/alerts" + (lastList()?.search ?? "");
  if (q.error) return <Failure error={q.error} what={isMissing(q.error) ? "There is no such alert" : "The alert cannot be shown"} retry={() => void q.refetch()} />;
  if (!q.data) return <Loading what="Reading the alert" />;
  const a = q.data;
  const triage = triageOf(a);
  return (
    <article className="page alert-page">
      <header className="alert-head">
        <p className="crumb">
          <Link to={back}>
            <Icon name="back" /> Alerts
          </Link>
        </p>
        <div className="headline">
          <SeverityMark of={a.severity} />
          <h1>{a.title}</h1>
        </div>
        <p className="reason">{a.reason}</p>
        <Silenced a={a} />
        <TriageBar a={a} triage={triage} />
      </header>
      <div className="columns">
        <div className="main-column">
          <Section title="At a glance">
            <Who a={a} />
          </Section>
          <Section title="Evidence">
            <Evidence alert={a} />
          </Section>
          <Requests a={a} />
          <Outcome a={a} />
          <Members a={a} />
          <RelatedList a={a} />
        </div>
        <div className="side-column">
          <Advice a={a} />
          <Activity a={a} revisions={raw?.data ?? [a]} triage={triage} />
          <Deliveries a={a} />
          <Classes a={a} />
        </div>
      </div>
    </article>
  );
}
