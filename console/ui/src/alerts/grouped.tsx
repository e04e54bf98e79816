// The alerts as groups, counted by the API, each with its first alerts and with
// what may be done to all of it.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "react-aria-components";
import { ask, isMissing } from "../api/client";
import type { Group, Row, RowPage } from "../api/types";
import { plural, shortTokens } from "../lib/format";
import { Link } from "../lib/router";
import { Failure, Loading, SeverityMark, statusText, Time, TriageMark } from "../ui/bits";
import { Icon } from "../ui/icons";
import { useActions } from "./actions";
import { apiQuery } from "./filters";
import { successClass, successText } from "./row";

export function AlertLines({ rows }: { rows: Row[] }) {
  return (
    <ul className="lines">
      {rows.map((r) => (
        <li key={r.id}>
          <SeverityMark of={r.severity} />
          <Link to={`/alerts/${r.id}`} title={r.title}>
            {shortTokens(r.title)}
          </Link>
          <span className={successClass(r) || "muted"}>{successText(r)}</span>
          <span className="muted">
            <Time at={r.last} relative />
          </span>
          <TriageMark status={r.triage.status} verdict={r.triage.verdict} />
        </li>
      ))}
    </ul>
  );
}

function Members({ filter }: { filter: Record<string, string> }) {
  const q = useQuery({
    queryKey: ["rows", filter],
    queryFn: ({ signal }) => ask<RowPage>("/api/v1/alerts", { query: { ...filter, view: "row", limit: 20, count: false }, signal }),
  });
  if (q.error) return <Failure error={q.error} retry={() => void q.refetch()} />;
  if (!q.data) return <Loading />;
  return <AlertLines rows={q.data.data} />;
}

function OneGroup({ group, by, base, search }: { group: Group; by: string; base: Record<string, string>; search: string }) {
  const [open, setOpen] = useState(false);
  const actions = useActions();
  const filter = group.filter ? { ...base, ...group.filter } : null;
  const name = group.key ? (by === "triage" ? (statusText[group.key as "new"] ?? group.key) : group.key) : by === "assignee" ? "nobody" : "none";
  const q = new URLSearchParams(search);
  q.delete("group");
  for (const [k, v] of Object.entries(group.filter ?? {})) q.set(k, v);
  const on = filter ? { filter, count: group.count } : null;
  return (
    <li className="group">
      <div className="group-head">
        <Button className="icon" aria-expanded={open} aria-label={`${open ? "Hide" : "Show"} the alerts of ${name}`} isDisabled={!filter} onPress={() => setOpen(!open)}>
          <Icon name={open ? "down" : "next"} />
        </Button>
        <SeverityMark of={group.severity} />
        <span className="group-name">
          {filter ? <Link to={`/alerts?${q}`}>{name}</Link> : name}
          <span className="second">{shortTokens(group.latest?.title ?? "")}</span>
        </span>
        <span className="num">{plural(group.count, "alert")}</span>
        <span className="num muted wide-only">{group.new} new</span>
        <span className="muted wide-only">
          <Time at={group.latest?.last} relative />
        </span>
        {on && (
          <span className="group-actions wide-only">
            <Button className="button small" onPress={() => actions.assignMe(on)} isDisabled={!actions.me}>
              Assign to me
            </Button>
            <Button className="button small" onPress={() => actions.close(on)}>
              Close …
            </Button>
          </span>
        )}
      </div>
      {open && filter && <Members filter={filter} />}
    </li>
  );
}

export function Grouped({ by, search }: { by: string; search: string }) {
  const base = apiQuery(search, Math.floor(Date.now() / 60_000) * 60_000);
  delete base.sort;
  const q = useQuery({
    queryKey: ["groups", by, base],
    queryFn: ({ signal }) => ask<{ data: Group[]; more: boolean; total: number }>("/api/v1/alerts/groups", { query: { ...base, by, limit: 500 }, signal }),
    refetchInterval: 30_000,
  });
  if (q.error && isMissing(q.error)) return <p className="empty muted">This weir cannot group alerts.</p>;
  if (q.error) return <Failure error={q.error} what="The groups cannot be shown" retry={() => void q.refetch()} />;
  if (!q.data) return <Loading what="Counting" />;
  if (q.data.data.length === 0) return <p className="empty">No alert matches.</p>;
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Groups">
      <p className="muted count">
        {plural(q.data.total, "group")} by {by === "triage" ? "state" : by}
        {q.data.more && ", the largest 500 are here"}
      </p>
      <ul className="groups">
        {q.data.data.map((g) => (
          <OneGroup key={g.key} group={g} by={by} base={base} search={search} />
        ))}
      </ul>
    </div>
  );
}
