// Campaigns: alerts that belong together.
import { AlertLines } from "../alerts/grouped";
import { usePart } from "../api/part";
import type { Campaign, CampaignPage } from "../api/types";
import { duration, integer, plural, principalText, word } from "../lib/format";
import { Link, usePath } from "../lib/router";
import { Fact, Facts, Section, SeverityMark, Time } from "../ui/bits";
import { Answer, Page } from "../ui/page";
import { CampaignChart } from "../ui/gantt";
import { useActions } from "../alerts/actions";
import { Button } from "react-aria-components";

const worked = (n: number | null) => (n === null ? "success not known" : n === 0 ? "none succeeded" : `${integer(n)} succeeded`);

function All() {
  const q = usePart<{ data: Campaign[]; more: boolean }>(["campaigns"], "/api/v1/campaigns", { limit: 200 }, { every: 30_000 });
  return (
    <Page title="Campaigns" lead="Alerts that belong together: one attacker, or one attack from many places.">
      <Answer of={q} what="The campaigns">
        {(d) =>
          d.data.length === 0 ? (
            <p className="empty muted">No alerts belong together.</p>
          ) : (
            <ul className="groups">
              {d.data.map((c) => (
                <li key={c.id} className="group campaign">
                  <SeverityMark of={c.severity} />
                  <span className="group-name">
                    <Link to={`/campaigns/${c.id}`}>{c.title}</Link>
                    <span className="second">
                      {c.detectors.join(", ")}; {c.endpoints.slice(0, 3).join(", ")}
                    </span>
                  </span>
                  <span className={c.succeeded ? "worked" : "muted"}>{worked(c.succeeded)}</span>
                  <span className="num">
                    {plural(c.alerts, "alert")}
                    <span className="second"> {integer(c.open)} open</span>
                  </span>
                  <span className="muted wide-only">{plural(c.principals, "client")}</span>
                  <span className="muted">
                    <Time at={c.last} relative />
                  </span>
                </li>
              ))}
            </ul>
          )
        }
      </Answer>
    </Page>
  );
}

function One({ id }: { id: string }) {
  const q = usePart<CampaignPage>(["campaign", id], `/api/v1/campaigns/${encodeURIComponent(id)}`, {}, { every: 30_000 });
  const actions = useActions();
  return (
    <Page
      title={q.data ? q.data.title : "Campaign"}
      lead={
        <Link to="/campaigns">All campaigns</Link>
      }
      aside={
        q.data && actions.may ? (
          <div className="chips">
            <Button className="button" onPress={() => actions.assign(q.data?.members ?? [])}>
              Assign all …
            </Button>
            <Button className="button primary" onPress={() => actions.close(q.data?.members ?? [])}>
              Close all …
            </Button>
          </div>
        ) : null
      }
    >
      <Answer of={q} what="The campaign">
        {(c) => (
          <>
            <Section title="At a glance" aside={<Link to={`/alerts?campaign=${c.id}&triage=any&suppressed=any`}>In the list</Link>}>
              <Facts>
                <Fact name="Severity">
                  <SeverityMark of={c.severity} />
                </Fact>
                <Fact name="Did it succeed">
                  <span className={c.succeeded ? "worked" : ""}>{worked(c.succeeded)}</span>
                </Fact>
                <Fact name="Alerts">
                  {integer(c.alerts)}, {integer(c.open)} open, {integer(c.new)} new
                </Fact>
                <Fact name="Clients">{integer(c.principals)}</Fact>
                <Fact name="Requests">{integer(c.requests)}</Fact>
                <Fact name="When">
                  <Time at={c.first} /> for {duration((Date.parse(c.last) - Date.parse(c.first)) / 1000)}
                </Fact>
                <Fact name="Detectors">{c.detectors.join(", ")}</Fact>
                <Fact name="Endpoints">
                  {c.endpoints.map((e) => (
                    <div key={e} className="mono break">
                      {e}
                    </div>
                  ))}
                </Fact>
              </Facts>
            </Section>
            <Section title="Who was active when">
              <CampaignChart members={c.members} timeline={c.timeline} />
            </Section>
            <div className="columns">
              <div className="main-column">
                <Section title={`Members (${integer(c.members.length)})`}>
                  <AlertLines rows={c.members} />
                </Section>
              </div>
              <div className="side-column">
                <Section title="What happened">
                  <ol className="activity">
                    {c.timeline.map((t, i) => {
                      const m = c.members.find((x) => x.id === t.alert);
                      return (
                        <li key={i}>
                          <span className="muted">
                            <Time at={t.time} />
                          </span>{" "}
                          {m ? <Link to={`/alerts/${m.id}`}>{principalText(m.principal)}</Link> : null} {word(t.kind)}
                          {t.text && `: ${t.text}`}
                        </li>
                      );
                    })}
                  </ol>
                </Section>
              </div>
            </div>
          </>
        )}
      </Answer>
    </Page>
  );
}

export default function CampaignsPage() {
  const path = usePath();
  const id = path.startsWith("/campaigns/") ? decodeURIComponent(path.slice("/campaigns/".length)) : "";
  return id ? <One id={id} /> : <All />;
}
