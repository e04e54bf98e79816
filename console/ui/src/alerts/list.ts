// The list of alerts as it is loaded: pages behind one another, changes put in
// at their place, and what is new kept back until it is asked for, so that
// nothing moves under a pointer.
import { useEffect, useState, useSyncExternalStore } from "react";
import { ask } from "../api/client";
import { useLive } from "../api/live";
import type { AnyTriage, Row, RowPage } from "../api/types";
import { apiQuery } from "./filters";

// The first page is a screen and a half, to be there soon; those behind it come in
// larger pieces.
const firstPage = 60;
const laterPages = 500;

export interface Shown {
  rows: readonly Row[];
  version: number; // grows with every change of rows
  total: { count: number; exact: boolean } | null;
  more: boolean;
  loading: boolean;
  error: unknown;
  waiting: number; // new ones that are not shown
}

export class AlertList {
  private at = new Map<string, number>();
  private rows: Row[] = [];
  private next: string | null = null;
  private top = 0;
  private running: AbortController | null = null;
  private checking: ReturnType<typeof setTimeout> | null = null;
  private changed = new Set<() => void>();
  shown: Shown = { rows: [], version: 0, total: null, more: true, loading: false, error: null, waiting: 0 };
  // Where the reader was, for coming back.
  scroll = 0;
  cursor = 0;
  left = 0; // when the reader went

  constructor(readonly search: string) {}

  subscribe = (f: () => void) => {
    this.changed.add(f);
    return () => void this.changed.delete(f);
  };

  private show(change: Partial<Shown>) {
    this.shown = { ...this.shown, ...change, rows: this.rows, version: this.shown.version + 1 };
    for (const f of this.changed) f();
  }

  /** indexOf is where an alert is in the list, -1 when it is not. */
  indexOf(id: string): number {
    return this.at.get(id) ?? -1;
  }

  async load() {
    if (this.running || !this.shown.more) return;
    const first = this.rows.length === 0;
    const running = (this.running = new AbortController());
    this.show({ loading: true, error: null });
    try {
      const filters = apiQuery(this.search, Date.now());
      // Counting what words select costs as much as finding it: rows first.
      const counts = first && !filters.q;
      const query = { ...filters, view: "row", limit: String(first ? firstPage : laterPages), count: String(counts), ...(this.next ? { cursor: this.next } : {}) };
      const page = await ask<RowPage>("/api/v1/alerts", { query, signal: running.signal });
      for (const row of page.data) {
        this.top = Math.max(this.top, row.seq);
        if (this.at.has(row.id)) continue;
        this.at.set(row.id, this.rows.length);
        this.rows.push(row);
      }
      this.next = page.next;
      this.running = null;
      this.show({ loading: false, more: page.more, ...(first ? { total: page.total ?? (page.more ? null : { count: this.rows.length, exact: true }) } : {}) });
      if (first && !counts && page.more) void this.count(filters);
    } catch (e) {
      if (running.signal.aborted) return;
      this.running = null;
      this.show({ loading: false, error: e });
    }
  }

  private async count(filters: Record<string, string>) {
    const { sort: _, ...query } = filters;
    const top = this.rows;
    try {
      const page = await ask<RowPage>("/api/v1/alerts", { query: { ...query, view: "row", limit: 1, count: true } });
      if (top === this.rows || this.rows[0]?.id === top[0]?.id) this.show({ total: page.total });
    } catch {
      // The list is there without it.
    }
  }

  /** reload begins anew; what was shown stays until the first page is there. */
  async reload() {
    this.running?.abort();
    this.running = null;
    this.at = new Map();
    this.rows = [];
    this.next = null;
    this.shown = { ...this.shown, more: true, waiting: 0, rows: [] };
    this.scroll = 0;
    this.cursor = 0;
    await this.load();
  }

  private put(i: number, row: Row) {
    this.rows = this.rows.slice();
    this.rows[i] = row;
    this.show({});
  }

  /** onRow takes a new revision: at its place when it is shown, else it waits. */
  onRow(row: Row) {
    const i = this.indexOf(row.id);
    if (i >= 0) this.put(i, row);
    else this.checkSoon();
  }

  onTriage(id: string, triage: AnyTriage) {
    this.onTriages([{ id, triage }]);
  }

  onTriages(list: { id: string; triage: AnyTriage }[]) {
    let rows: Row[] | null = null;
    for (const { id, triage } of list) {
      const i = this.indexOf(id);
      const row = this.rows[i];
      if (!row || row.triage.revision > triage.revision) continue;
      rows ??= this.rows.slice();
      rows[i] = { ...row, triage: { ...triage, comments: typeof triage.comments === "number" ? triage.comments : triage.comments.length } };
    }
    if (!rows) return;
    this.rows = rows;
    this.show({});
  }

  /** onReset: the stream may have missed something. */
  onReset() {
    this.checkSoon();
  }

  private checkSoon() {
    this.checking ??= setTimeout(() => {
      this.checking = null;
      void this.check();
    }, 1500);
  }

  /** check counts what is new under the filters, as the API has them. */
  private async check() {
    try {
      const query = apiQuery(this.search, Date.now());
      delete query.sort;
      const page = await ask<RowPage>("/api/v1/alerts", { query: { ...query, view: "row", limit: 200, count: false, after: this.top || undefined } });
      const waiting = page.data.filter((r) => !this.at.has(r.id)).length;
      if (waiting > 0 && this.rows.length === 0) await this.reload();
      else if (waiting !== this.shown.waiting) this.show({ waiting });
    } catch {
      // The next change asks again.
    }
  }
}

// The lists of the last few filters, so that coming back finds the place again.
const kept: AlertList[] = [];

export function listFor(search: string): AlertList {
  let list = kept.find((l) => l.search === search);
  if (!list) {
    list = new AlertList(search);
    kept.unshift(list);
    kept.length = Math.min(kept.length, 3);
  }
  return list;
}

let last: AlertList | null = null;
/** lastList is the list that somebody came from; null when there was none. */
export const lastList = () => last;

export function useAlertList(search: string): [AlertList, Shown] {
  const [list, setList] = useState(() => listFor(search));
  if (list.search !== search) setList(listFor(search));
  const shown = useSyncExternalStore(list.subscribe, () => list.shown);
  useEffect(() => {
    last = list;
    // What changed while nobody listened is not known after a while.
    if (list.shown.rows.length === 0) void list.load();
    else if (Date.now() - list.left > 120_000) void list.reload();
    else list.onReset();
    return () => void (list.left = Date.now());
  }, [list]);
  useLive({
    row: (r) => list.onRow(r),
    triage: (id, t) => list.onTriage(id, t),
    reset: () => list.onReset(),
  });
  return [list, shown];
}
