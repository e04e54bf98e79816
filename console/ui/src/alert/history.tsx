// Where an alert was delivered, and what weir and people did with it.
import { usePart } from "../api/part";
import type { Alert, AuditEntry, Delivery, RevisionRow, Triage } from "../api/types";
import { plural, word } from "../lib/format";
import { actionText } from "../lib/names";
import { Section, Time, verdictText } from "../ui/bits";

const deliveryText: Record<Delivery["state"], string> = {
  delivered: "delivered", waiting: "waiting", retrying: "trying again", dead: "given up", not_routed: "not routed there", history: "history: not sent",
};

export function Deliveries({ a }: { a: Alert }) {
  const q = usePart<{ data: Delivery[] }>(["deliveries", a.id, a.revision], `/api/v1/alerts/${a.id}/deliveries`);
  if (!q.data) return null;
  return (
    <Section title="Delivery">
      {q.data.data.length === 0 && <p className="muted">No sink is configured; the feed and this console have it.</p>}
      <ul className="plain-list">
        {q.data.data.map((d) => (
          <li key={d.sink} className={`delivery is-${d.state}`}>
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
  if (parts.length === 0) parts.push(e.action === "alert.triage" ? "commented" : actionText(e.action));
  return parts.join(", ") + (e.outcome && e.outcome !== "success" ? ` (${e.outcome})` : "");
}

/** Activity is what detection and people did, the latest first. */
export function Activity({ a, revisions, triage }: { a: Alert; revisions: Alert[]; triage: Triage }) {
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
