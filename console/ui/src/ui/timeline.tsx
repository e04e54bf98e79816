// Requests over time, by how they were answered. uPlot comes with this file alone.
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { integer } from "../lib/format";
import { usePrefs } from "../lib/prefs";
import { useMedia } from "../lib/media";

export interface Bars {
  start: number; // seconds since 1970
  step: number; // seconds
  names: string[]; // of the layers, the lowest first
  layers: number[][];
  mark?: { from: number; to: number }; // seconds: the alert's window
  marks?: number[]; // seconds: requests that carry evidence
}

const colours: Record<string, string> = { answered: "--chart-ok", "2xx": "--chart-ok", "3xx": "--chart-other", "4xx": "--chart-client", errors: "--chart-client", "5xx": "--chart-server", other: "--chart-none" };

const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "2-digit" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** colour resolves a variable to what a canvas takes. */
function colour(name: string, probe: HTMLElement): string {
  probe.style.color = `var(${name})`;
  const c = getComputedStyle(probe).color;
  probe.style.color = "";
  return c || css(name);
}

function draw(box: HTMLElement, bars: Bars): uPlot {
  const n = Math.max(0, ...bars.layers.map((l) => l.length));
  const xs = Array.from({ length: n }, (_, i) => bars.start + i * bars.step);
  // Stacked from above: each series is the sum of its own and those below it.
  const sums: number[][] = [];
  for (const layer of bars.layers) sums.push(xs.map((_, i) => (sums.at(-1)?.[i] ?? 0) + (layer[i] ?? 0)));
  const order = bars.names.map((_, i) => i).toReversed();
  const muted = colour("--muted", box);
  const grid = colour("--line", box);
  const mark = colour("--chart-mark", box);
  const point = colour("--critical", box);
  const long = n * bars.step > 36 * 3600;
  const paths = uPlot.paths.bars?.({ size: [0.9, 40], align: 1 });
  const axis = { stroke: muted, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui" };
  return new uPlot(
    {
      width: box.clientWidth,
      height: 150,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: true, range: [bars.start, bars.start + Math.max(n, 1) * bars.step] }, y: { range: (_u, _min, max) => [0, Math.max(1, max * 1.05)] } },
      axes: [{ ...axis, values: (_u, vs) => vs.map((v) => (long ? day : hour).format(v * 1000)), space: long ? 64 : 50 }, { ...axis, size: 54, values: (_u, vs) => vs.map((v) => (Number.isInteger(v) ? integer(v) : "")) }],
      series: [
        {},
        ...order.map((i) => ({
          label: bars.names[i] ?? "",
          fill: colour(colours[bars.names[i] ?? ""] ?? "--chart-ok", box),
          width: 0,
          paths,
          points: { show: false },
        })),
      ],
      hooks: {
        draw: [
          (u) => {
            const size = 4 * devicePixelRatio;
            u.ctx.fillStyle = point;
            for (const t of new Set(bars.marks?.map((t) => Math.round(u.valToPos(t, "x", true))))) {
              if (t < u.bbox.left || t > u.bbox.left + u.bbox.width) continue;
              u.ctx.beginPath();
              u.ctx.moveTo(t, u.bbox.top + size * 2);
              u.ctx.lineTo(t - size, u.bbox.top);
              u.ctx.lineTo(t + size, u.bbox.top);
              u.ctx.fill();
            }
          },
        ],
        drawClear: [
          (u) => {
            if (!bars.mark) return;
            const from = Math.max(u.valToPos(bars.mark.from, "x", true), u.bbox.left);
            const to = Math.min(u.valToPos(bars.mark.to, "x", true), u.bbox.left + u.bbox.width);
            u.ctx.fillStyle = mark;
            u.ctx.fillRect(from, u.bbox.top, Math.max(2, to - from), u.bbox.height);
          },
        ],
      },
    },
    [xs, ...order.map((i) => sums[i] ?? [])] as uPlot.AlignedData,
    box,
  );
}

export default function Timeline({ bars, label }: { bars: Bars; label: string }) {
  const box = useRef<HTMLDivElement>(null);
  const { theme } = usePrefs();
  const dark = useMedia("(prefers-color-scheme: dark)");
  useEffect(() => {
    const el = box.current;
    if (!el) return;
    let plot = draw(el, bars);
    let width = el.clientWidth;
    const watch = new ResizeObserver(() => {
      if (el.clientWidth === width || el.clientWidth === 0) return;
      width = el.clientWidth;
      plot.setSize({ width, height: 150 });
    });
    watch.observe(el);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [bars, theme, dark]);
  const total = bars.layers.map((l) => l.reduce((a, b) => a + b, 0));
  return (
    <figure className="timeline">
      <div ref={box} className="plot" role="img" aria-label={`${label}: ${bars.names.map((n, i) => `${integer(total[i] ?? 0)} ${n}`).join(", ")}`} />
      <figcaption>
        {bars.names.map(
          (n, i) =>
            (total[i] ?? 0) > 0 && (
              <span key={n}>
                <span className={`key chart-${n}`} aria-hidden="true" /> {n} <strong>{integer(total[i] ?? 0)}</strong>
              </span>
            ),
        )}
        {bars.marks && bars.marks.length > 0 && (
          <span className="muted">
            <span className="key point" aria-hidden="true" /> evidence
          </span>
        )}
        {bars.mark && (
          <span className="muted">
            <span className="key mark" aria-hidden="true" /> the alert's window
          </span>
        )}
      </figcaption>
    </figure>
  );
}
