// What a reader prefers, kept in this browser alone.
import { useSyncExternalStore } from "react";

export interface Prefs {
  theme: "auto" | "light" | "dark";
  shortcuts: boolean; // single keys, WCAG 2.1.4
  density: "comfortable" | "compact";
  live: boolean;
  views: { name: string; search: string }[]; // of the list of alerts, saved under a name
}

const key = "weir.prefs";
const standard: Prefs = { theme: "auto", shortcuts: true, density: "comfortable", live: true, views: [] };
let prefs: Prefs = read();
const changed = new Set<() => void>();

function read(): Prefs {
  try {
    return { ...standard, ...(JSON.parse(localStorage.getItem(key) ?? "{}") as Partial<Prefs>) };
  } catch {
    return standard;
  }
}

export const currentPrefs = () => prefs;

export function applyTheme() {
  if (prefs.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = prefs.theme;
}

export function setPrefs(change: Partial<Prefs>) {
  prefs = { ...prefs, ...change };
  try {
    localStorage.setItem(key, JSON.stringify(prefs));
  } catch {
    // The preference lasts as long as the page.
  }
  applyTheme();
  for (const f of changed) f();
}

export function usePrefs(): Prefs {
  return useSyncExternalStore((f) => {
    changed.add(f);
    return () => void changed.delete(f);
  }, currentPrefs);
}
