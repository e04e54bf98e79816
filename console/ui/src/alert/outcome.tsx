// What came of it: what was reached, by whom, and what belongs with it.
import { useState } from "react";
import { Button } from "react-aria-components";
import { AlertLines } from "../alerts/grouped";
import { AccountName, RevealButton } from "../alerts/reveal";
import { usePart } from "../api/part";
import type { Alert, CampaignPage, Related } from "../api/types";
import { bytes, integer, plural } from "../lib/format";
import { Link } from "../lib/router";
import { Copy, Fact, Facts, PrincipalLink, Section, Time } from "../ui/bits";

export function Outcome({ a }: { a: Alert }) {
  const o = a.outcome;
  const { accounts, objects } = a.affected;
  const [every, setEvery] = useState(false);
  const shown = every ? accounts : accounts.slice(0, 12);
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
                <th scope="col" className="wide-only">
                  Session
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.map((x, i) => (
                <tr key={i}>
                  <td>
                    <Link to={`/principals/account/${encodeURIComponent(x.name)}`}>
                      <AccountName token={x.name} />
                    </Link>
                  </td>
                  <td className={x.outcome === "success" ? "worked" : ""}>{x.outcome}</td>
                  <td>
                    <Time at={x.time} />
                  </td>
                  <td className="mono break wide-only">{x.session || "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {accounts.length > shown.length && (
        <Button className="link" onPress={() => setEvery(true)}>
          Show all {integer(accounts.length)} that are listed
        </Button>
      )}
      {objects.length > 0 && (
        <>
          <h3>
            Objects handed out <Copy text={objects.join("\n")} label="Copy the objects" />
          </h3>
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

export function Members({ a }: { a: Alert }) {
  const [all, setAll] = useState(false);
  if (a.members.length === 0) return null;
  return (
    <Section title={`Members (${integer(a.members_total)})`} aside={<Copy text={a.members.map((m) => m.value).join("\n")} label="Copy the members that are listed" />}>
      {a.estimate && (
        <p>
          About {integer(a.estimate.attempts)} of its requests were malicious (90 %: {integer(a.estimate.low)} to {integer(a.estimate.high)}).
        </p>
      )}
      <ul className="members">
        {a.members.slice(0, all ? undefined : 60).map((m) => (
          <li key={m.kind + m.value}>
            <PrincipalLink of={m} />
          </li>
        ))}
      </ul>
      {a.members.length > 60 && !all && (
        <Button className="link" onPress={() => setAll(true)}>
          Show all {integer(a.members.length)} that are listed
        </Button>
      )}
      {a.members_total > a.members.length && <p className="muted">and {integer(a.members_total - a.members.length)} more, which the alert does not list</p>}
    </Section>
  );
}

/** Campaign is who else belongs to the same attack. */
export function Campaign({ a }: { a: Alert }) {
  const q = usePart<CampaignPage>(["campaign", a.campaign], `/api/v1/campaigns/${encodeURIComponent(a.campaign)}`, {}, { enabled: a.campaign !== "" });
  if (!a.campaign) return null;
  const c = q.data;
  const others = c?.members.filter((r) => r.id !== a.id) ?? [];
  return (
    <Section title="Campaign" aside={<Link to={`/campaigns/${a.campaign}`}>Open the campaign</Link>}>
      {!c && <p className="muted">This alert belongs with others of one campaign.</p>}
      {c && (
        <>
          <p>
            <strong>{c.title}</strong>: {plural(c.alerts, "alert")} ({integer(c.open)} open) by {plural(c.principals, "client")}, {plural(c.requests, "request")}
            {c.succeeded ? (
              <>
                , <span className="worked">{integer(c.succeeded)} succeeded</span>
              </>
            ) : null}
            ; <Time at={c.first} /> to <Time at={c.last} />.
          </p>
          <AlertLines rows={others.slice(0, 8)} />
          {others.length > 8 && (
            <p>
              <Link to={`/campaigns/${a.campaign}`}>All {integer(c.alerts)}</Link>
            </p>
          )}
        </>
      )}
    </Section>
  );
}

export function RelatedList({ a }: { a: Alert }) {
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
