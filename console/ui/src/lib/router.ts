// The page's address as state: a path, and a query that filters and pages are
// kept in, so that an address shows a colleague the same.
import { createElement, useSyncExternalStore, type AnchorHTMLAttributes, type MouseEvent, type ReactNode } from "react";

const changed = new Set<() => void>();

function announce() {
  for (const f of changed) f();
}

window.addEventListener("popstate", announce);

function subscribe(f: () => void) {
  changed.add(f);
  return () => void changed.delete(f);
}

export function navigate(to: string, options: { replace?: boolean } = {}) {
  if (to === location.pathname + location.search) return;
  if (options.replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  announce();
}

/** setQuery changes some parameters of the address; null removes one. */
export function setQuery(change: Record<string, string | null>, options: { replace?: boolean } = {}) {
  const q = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(change)) {
    if (value === null || value === "") q.delete(name);
    else q.set(name, value);
  }
  const text = q.toString();
  navigate(location.pathname + (text ? "?" + text : ""), options);
}

export function usePath(): string {
  return useSyncExternalStore(subscribe, () => location.pathname);
}

export function useSearch(): string {
  return useSyncExternalStore(subscribe, () => location.search);
}

export function useQueryParam(name: string): string {
  const search = useSearch();
  return new URLSearchParams(search).get(name) ?? "";
}

type LinkProps = Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href"> & { to: string; children?: ReactNode };

/** Link goes to a page of the console; with a modifier key it is an ordinary link. */
export function Link({ to, onClick, ...rest }: LinkProps) {
  return createElement("a", {
    ...rest,
    href: to,
    onClick: (e: MouseEvent<HTMLAnchorElement>) => {
      onClick?.(e);
      if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
      e.preventDefault();
      navigate(to);
      window.scrollTo(0, 0);
    },
  });
}
