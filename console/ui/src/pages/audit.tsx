// The audit: who did what, the latest first.
import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Button } from "react-aria-components";
import { ask } from "../api/client";
import type { AuditEntry } from "../api/types";
import { actionText } from "../lib/names";
import { Link } from "../lib/router";
import { Failure, Loading, Section, Time } from "../ui/bits";
import { Page } from "../ui/page";

interface Feed {
  data: { seq: number; entry: AuditEntry & { where: { interface: string; address: string } } }[];
  next_cursor: string;
  has_more: boolean;
}

function Target({ e }: { e: AuditEntry }) {
  const t = e.target;
  if (!t) return null;
  const ids = t.ids ?? [];
  return (
    <span className="mono break">
      {t.kind === "alert" ? ids.slice(0, 3).map((id) => <Link key={id} to={`/alerts/${id}`}>{id.slice(0, 8)} </Link>) : `${t.kind} ${ids.slice(0, 3).join(", ")}`}
      {ids.length > 3 && ` and ${ids.length - 3} more`}
    </span>
  );
}

function Change({ e }: { e: AuditEntry }) {
  const b = (e.before ?? {}) as Record<string, unknown>;
  const a = (e.after ?? {}) as Record<string, unknown>;
  const names = [...new Set([...Object.keys(b), ...Object.keys(a)])].filter((n) => n !== "revision" && JSON.stringify(b[n]) !== JSON.stringify(a[n]));
  const text = (v: unknown) => (v === undefined || v === null || v === "" ? "–" : typeof v === "object" ? JSON.stringify(v) : String(v));
  return <span className="second break">{names.slice(0, 5).map((n) => `${n}: ${text(b[n])} → ${text(a[n])}`).join("; ")}</span>;
}

export default function AuditPage() {
  const [text, setText] = useState("");
  const q = useInfiniteQuery({
    queryKey: ["audit"],
    initialPageParam: "",
    queryFn: ({ pageParam, signal }) => ask<Feed>("/api/v1/feed/audit", { query: { cursor: pageParam, limit: 5000 }, signal }),
    getNextPageParam: (last) => (last.has_more ? last.next_cursor : undefined),
  });
  // The feed begins with the oldest; what is shown is its end.
  const { hasNextPage, isFetching, error, fetchNextPage } = q;
  useEffect(() => {
    if (hasNextPage && !isFetching && !error) void fetchNextPage();
  }, [hasNextPage, isFetching, error, fetchNextPage]);
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = (q.data?.pages.flatMap((p) => p.data) ?? [])
    .filter((r) => words.length === 0 || words.every((w) => `${JSON.stringify(r.entry)} ${actionText(r.entry.action)}`.toLowerCase().includes(w)))
    .slice(-500)
    .toReversed();
  return (
    <Page
      title="Audit"
      lead="Who did what, when and why. Each row is chained to the one before: weir audit verify checks that none is missing or changed."
      aside={
        <Button className="button" onPress={() => void q.refetch()}>
          Read again
        </Button>
      }
    >
      <div className="inline-form">
        <input type="search" aria-label="Search the audit" placeholder="A name, an action, an address ..." value={text} onChange={(e) => setText(e.target.value)} />
      </div>
      {q.error && <Failure error={q.error} what="The audit cannot be shown" retry={() => void q.refetch()} />}
      {!q.data && !q.error && <Loading />}
      {q.data && (
        <Section title={rows.length === 1 ? "One entry" : `The latest ${rows.length} entries`}>
          <div className="table-box" tabIndex={0} role="region" aria-label="Audit, as a table">
            <table>
              <thead>
                <tr>
                  <th scope="col">Time</th>
                  <th scope="col">Who</th>
                  <th scope="col">What</th>
                  <th scope="col" className="wide-only">To what</th>
                  <th scope="col" className="wide-only">From</th>
                </tr>
              </thead>
              <tbody>
                {rows.map(({ seq, entry: e }) => (
                  <tr key={seq}>
                    <td className="nowrap">
                      <Time at={e.time} />
                    </td>
                    <td>
                      {e.who.name || e.who.id || e.who.kind}
                      <div className="second">{e.who.roles.join(", ")}</div>
                    </td>
                    <td>
                      <span title={e.action}>{actionText(e.action)}</span> {e.outcome !== "success" && <span className="bad">{e.outcome}</span>}
                      {e.reason && <div className="break">“{e.reason}”</div>}
                      <Change e={e} />
                    </td>
                    <td className="wide-only">
                      <Target e={e} />
                    </td>
                    <td className="wide-only mono">
                      {e.where.interface} {e.where.address}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Section>
      )}
    </Page>
  );
}
