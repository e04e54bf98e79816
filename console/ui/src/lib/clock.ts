// One clock for all relative times on a page.
import { useSyncExternalStore } from "react";

let now = Date.now();
const changed = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(f: () => void) {
  changed.add(f);
  timer ??= setInterval(() => {
    now = Date.now();
    for (const g of changed) g();
  }, 15_000);
  return () => {
    changed.delete(f);
    if (changed.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

export const useNow = () => useSyncExternalStore(subscribe, () => now);
