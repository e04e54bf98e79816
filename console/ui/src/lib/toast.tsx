// Short messages at the bottom, each announced, with what takes an action back.
import { useEffect, useSyncExternalStore } from "react";
import { Button } from "react-aria-components";
import { Problem } from "../api/client";

interface Toast {
  id: number;
  text: string;
  tone: "plain" | "bad";
  undo?: () => void;
  then?: { text: string; do: () => void }; // what else offers itself
  stays: number;
}

let list: Toast[] = [];
let next = 1;
const changed = new Set<() => void>();

function set(l: Toast[]) {
  list = l;
  for (const f of changed) f();
}

export function toast(text: string, options: { tone?: "plain" | "bad"; undo?: () => void; then?: Toast["then"] } = {}) {
  const t = { id: next++, text, tone: options.tone ?? "plain", undo: options.undo, then: options.then, stays: options.undo || options.then || options.tone === "bad" ? 12_000 : 5_000 };
  set([...list.slice(-2), t]);
}

export function toastProblem(what: string, e: unknown) {
  const detail = e instanceof Error ? e.message : String(e);
  const id = e instanceof Problem && e.requestId && e.status >= 500 ? ` (request ${e.requestId})` : "";
  toast(`${what}: ${detail}${id}`, { tone: "bad" });
}

/** undoLast takes back the newest action that can be. */
export function undoLast() {
  const t = list.findLast((x) => x.undo);
  if (!t) return;
  set(list.filter((x) => x !== t));
  t.undo?.();
}

function One({ t }: { t: Toast }) {
  const close = () => set(list.filter((x) => x.id !== t.id));
  useEffect(() => {
    const timer = setTimeout(close, t.stays);
    return () => clearTimeout(timer);
  });
  return (
    <div className={`toast ${t.tone}`}>
      <span>{t.text}</span>
      {t.undo && (
        <Button
          className="link strong"
          onPress={() => {
            close();
            t.undo?.();
          }}
        >
          Undo
        </Button>
      )}
      {t.then && (
        <Button
          className="link strong"
          onPress={() => {
            close();
            t.then?.do();
          }}
        >
          {t.then.text}
        </Button>
      )}
      <Button className="icon" aria-label="Dismiss" onPress={close}>
        ×
      </Button>
    </div>
  );
}

export function Toasts() {
  const toasts = useSyncExternalStore(
    (f) => {
      changed.add(f);
      return () => void changed.delete(f);
    },
    () => list,
  );
  return (
    <div className="toasts" role="region" aria-label="Messages" aria-live="polite">
      {toasts.map((t) => (
        <One key={t.id} t={t} />
      ))}
    </div>
  );
}
