// What changes while somebody looks: one stream a tab, and none while the tab is
// hidden, for a browser has six connections to one server and people open many
// tabs.
import { useEffect, useRef, useSyncExternalStore } from "react";
import type { AnyTriage, Row } from "./types";

export interface Listener {
  row?: (row: Row) => void;
  triage?: (id: string, triage: AnyTriage) => void;
  /** reset: something may have been missed; read again. */
  reset?: () => void;
}

export type LiveState = "off" | "connecting" | "live" | "lost";

const listeners = new Set<{ current: Listener }>();
const watchers = new Set<() => void>();
let source: EventSource | null = null;
let state: LiveState = "off";
let through: string | null = null;
let waits: string[] = [];
let missed = false;

function set(s: LiveState) {
  state = s;
  for (const f of watchers) f();
}

function each(f: (l: Listener) => void) {
  for (const l of listeners) f(l.current);
}

function open() {
  if (source || document.hidden || listeners.size === 0) return;
  set("connecting");
  source = new EventSource("/api/v1/alerts/stream");
  source.onopen = () => {
    if (missed) each((l) => l.reset?.());
    missed = false;
    set("live");
  };
  source.onerror = () => {
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      missed = true;
      setTimeout(open, 10_000);
    }
    set("lost");
  };
  const on = (name: string, f: (data: never) => void) =>
    source?.addEventListener(name, (e) => f(JSON.parse((e as MessageEvent<string>).data) as never));
  on("alert", (row: Row) => each((l) => l.row?.(row)));
  on("triage", (t: { id: string; triage: AnyTriage }) => each((l) => l.triage?.(t.id, t.triage)));
  on("gone", () => each((l) => l.reset?.()));
  on("heartbeat", (h: { through: string | null; waits_for: string[] }) => {
    through = h.through;
    waits = h.waits_for;
    set("live");
  });
}

function close() {
  source?.close();
  source = null;
  missed = true;
  set("off");
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));

/** useLive listens while the component is there. */
export function useLive(listener: Listener) {
  const ref = useRef(listener);
  ref.current = listener;
  useEffect(() => {
    listeners.add(ref);
    open();
    return () => {
      listeners.delete(ref);
      if (listeners.size === 0) {
        close();
        missed = false;
      }
    };
  }, []);
}

export function useLiveState(): { state: LiveState; through: string | null; waits: string[] } {
  const s = useSyncExternalStore(
    (f) => {
      watchers.add(f);
      return () => void watchers.delete(f);
    },
    () => state,
  );
  return { state: s, through, waits };
}
