// Who of a campaign was active when: a line each, with what changed.
import type { CampaignPage, Row } from "../api/types";
import { clockOf, dayOf, principalText } from "../lib/format";
import { Link } from "../lib/router";
import { rank } from "./bits";

const most = 40;

export function CampaignChart({ members, timeline }: { members: Row[]; timeline: CampaignPage["timeline"] }) {
  const rows = members
    .toSorted((a, b) => rank(b.severity) - rank(a.severity) || Date.parse(a.first) - Date.parse(b.first))
    .slice(0, most)
    .toSorted((a, b) => Date.parse(a.first) - Date.parse(b.first));
  if (rows.length === 0) return <p className="muted">No member is stored any more.</p>;
  const from = Math.min(...rows.map((r) => Date.parse(r.first)));
  const to = Math.max(...rows.map((r) => Date.parse(r.last)), from + 60_000);
  const x = (t: string) => ((Date.parse(t) - from) / (to - from)) * 100;
  const stamp = (ms: number) => {
    const t = new Date(ms).toISOString();
    return `${dayOf(t)} ${clockOf(t)}`;
  };
  return (
    <div className="gantt">
      <div className="gantt-scale muted" aria-hidden="true">
        <span>{stamp(from)}</span>
        <span>{stamp(to)}</span>
      </div>
      <ul>
        {rows.map((r) => (
          <li key={r.id}>
            <Link to={`/alerts/${r.id}`} className="mono" title={r.title}>
              {principalText(r.principal)}
            </Link>
            <svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label={`${r.severity}, ${stamp(Date.parse(r.first))} to ${stamp(Date.parse(r.last))}`}>
              <rect className="track" x="0" y="4.5" width="100" height="1" />
              <rect className={`bar fill-${r.severity}`} x={x(r.first)} y="2" width={Math.max(0.5, x(r.last) - x(r.first))} height="6" />
              {timeline
                .filter((t) => t.alert === r.id && t.kind === "succeeded")
                .map((t, i) => (
                  <rect key={i} className="success" x={Math.min(99.4, Math.max(0, x(t.time) - 0.3))} y="0" width="0.6" height="10" />
                ))}
            </svg>
          </li>
        ))}
      </ul>
      {members.length > most && <p className="muted">The gravest {most} of {members.length}.</p>}
    </div>
  );
}
