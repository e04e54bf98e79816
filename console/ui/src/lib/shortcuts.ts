// Single keys and sequences like "g a". They rest in fields and dialogs, and a
// preference turns them off (WCAG 2.1.4).
import { useEffect, useRef } from "react";
import { currentPrefs } from "./prefs";

export type Shortcuts = Record<string, () => void>;

const layers: { current: Shortcuts }[] = [];
let prefix = "";
let prefixAt = 0;

function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "button"].includes(target.type);
}

function onKey(e: KeyboardEvent) {
  if (!currentPrefs().shortcuts || e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
  if (typing(e.target) || document.querySelector("[role=dialog], [role=alertdialog], [role=menu], [role=listbox]")) return;
  let name = e.key;
  if (e.shiftKey && /^[a-z]$/i.test(e.key)) name = "Shift+" + e.key.toLowerCase();
  const now = Date.now();
  const full = prefix && now - prefixAt < 1200 ? prefix + " " + name : name;
  prefix = "";
  // A sequence wins over a single key, whichever layer has it.
  for (const wanted of full === name ? [name] : [full, name]) {
    const f = layers.findLast((l) => l.current[wanted])?.current[wanted];
    if (f) {
      e.preventDefault();
      f();
      return;
    }
  }
  if (layers.some((l) => Object.keys(l.current).some((k) => k.startsWith(name + " ")))) {
    prefix = name;
    prefixAt = now;
  }
}

/** useShortcuts binds keys while the component is there; later ones win. */
export function useShortcuts(keys: Shortcuts) {
  const layer = useRef(keys);
  layer.current = keys;
  useEffect(() => {
    if (layers.length === 0) document.addEventListener("keydown", onKey);
    layers.push(layer);
    return () => {
      layers.splice(layers.indexOf(layer), 1);
      if (layers.length === 0) document.removeEventListener("keydown", onKey);
    };
  }, []);
}
