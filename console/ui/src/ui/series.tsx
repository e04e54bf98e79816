// A series of the API as a chart.
import { lazy, Suspense, useMemo } from "react";
import type { Series } from "../api/types";
import type { Bars } from "./timeline";

const Timeline = lazy(() => import("./timeline"));

export function SeriesChart({ series, label }: { series: Series; label: string }) {
  const bars = useMemo((): Bars => {
    const start = Date.parse(series.start) / 1000;
    const status = Object.entries(series.statuses ?? {});
    if (status.length) return { start, step: series.step_s, names: status.map(([n]) => n), layers: status.map(([, l]) => l) };
    const errors = series.errors ?? series.requests.map(() => 0);
    return { start, step: series.step_s, names: ["answered", "errors"], layers: [series.requests.map((n, i) => n - (errors[i] ?? 0)), errors] };
  }, [series]);
  if (bars.layers.every((l) => l.every((n) => n === 0))) return <p className="muted">No request in this period.</p>;
  return (
    <Suspense fallback={<div className="plot" />}>
      <Timeline bars={bars} label={label} />
    </Suspense>
  );
}
