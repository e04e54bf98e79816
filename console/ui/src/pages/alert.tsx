// One alert: the reason first, then who, what came of it, what to do, and the
// evidence.
import { useQueryClient } from "@tanstack/react-query";
import { Button } from "react-aria-components";
import { useActions } from "../alerts/actions";
import { goingOn } from "../alerts/row";
import { lastList } from "../alerts/list";
import { Named } from "../alerts/reveal";
import { SuppressButton, suppressFrom, useLatest } from "../alerts/suppress";
import type { Target } from "../alerts/triage";
import { isMissing } from "../api/client";
import { useLive } from "../api/live";
import { Classes } from "../alert/classes";
import { Activity, Deliveries } from "../alert/history";
import { Campaign, Members, Outcome, RelatedList } from "../alert/outcome";
import { Requests } from "../alert/requests";
import type { Alert, Triage } from "../api/types";
import { duration, integer, plural } from "../lib/format";
import { Link, navigate } from "../lib/router";
import { useShortcuts } from "../lib/shortcuts";
import { toast, undoLast } from "../lib/toast";
import { Copy, Fact, Facts, Failure, Loading, PrincipalLink, Section, SeverityMark, Time, TriageMark } from "../ui/bits";
import { Evidence } from "../ui/evidence";
import { Icon } from "../ui/icons";

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
            <li key={n}>
              <Named text={n} />
            </li>
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
          <h1>
            <Named text={a.title} />
          </h1>
        </div>
        <p className="reason">
          <Named text={a.reason} />
        </p>
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
          <Campaign a={a} />
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
