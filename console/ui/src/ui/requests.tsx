// Requests as a table; on a narrow page as two lines each.
import type { ApiRequest } from "../api/types";
import { bytes } from "../lib/format";
import { Time } from "./bits";

export type Shown = Pick<ApiRequest, "time" | "ip" | "method" | "path" | "status" | "bytes"> & { query?: string; user_agent?: string; source: string; evidence?: boolean; nats?: number | null };

function statusClass(n: number | null): string {
  return n === null || n === 0 ? "" : `status-${Math.floor(n / 100)}`;
}

/** RequestTable marks evidence where not all of it is. */
export function RequestTable({ rows, label, mark = true }: { rows: Shown[]; label: string; mark?: boolean }) {
  const weighed = rows.some((r) => r.nats !== undefined);
  return (
    <div className="table-box" tabIndex={0} role="region" aria-label={`${label}, as a table`}>
      <table className="requests">
        <thead>
          <tr>
            <th scope="col">Time</th>
            {weighed && (
              <th scope="col" className="num">
                Adds (nats)
              </th>
            )}
            <th scope="col">Request</th>
            <th scope="col" className="num">
              Status
            </th>
            <th scope="col" className="num wide-only">
              Size
            </th>
            <th scope="col" className="wide-only">
              From
            </th>
            <th scope="col" className="wide-only">
              Source
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((r, i) => (
            <tr key={`${r.source}-${i}`} className={mark && r.evidence ? "is-evidence" : undefined}>
              <td className="nowrap">
                <Time at={r.time} />
              </td>
              {weighed && <td className="num">{r.nats === undefined ? "" : r.nats === null ? <span title="Adds nothing here, but would if those before it were not there">spare</span> : `${r.nats >= 0 ? "+" : "−"}${Math.abs(r.nats).toFixed(2)}`}</td>}
              <td className="mono break">
                <span className="method">{r.method}</span> {r.path}
                {r.query ? <span className="muted">?{r.query}</span> : null}
                {mark && r.evidence && <span className="flag">evidence</span>}
              </td>
              <td className={`num ${statusClass(r.status)}`}>{r.status || "–"}</td>
              <td className="num wide-only">{r.bytes === null ? "–" : bytes(r.bytes)}</td>
              <td className="mono wide-only" title={r.user_agent}>
                {r.ip}
              </td>
              <td className="mono muted wide-only">{r.source}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
