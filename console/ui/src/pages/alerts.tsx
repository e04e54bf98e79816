// The alert list.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { Button } from "react-aria-components";
import { type Actions, type On, useActions } from "../alerts/actions";
import { FilterBar } from "../alerts/bar";
import { apiQuery } from "../alerts/filters";
import { Grouped } from "../alerts/grouped";
import { type AlertList, type Shown, useAlertList } from "../alerts/list";
import { ListRow } from "../alerts/row";
import { SuppressButton, suppressFrom } from "../alerts/suppress";
import { Take } from "../alerts/views";
import { useLiveState } from "../api/live";
import { integer, plural } from "../lib/format";
import { useMedia } from "../lib/media";
import { setPrefs, usePrefs } from "../lib/prefs";
import { navigate, useSearch } from "../lib/router";
import { useShortcuts } from "../lib/shortcuts";
import { undoLast } from "../lib/toast";
import { Failure, Loading } from "../ui/bits";

function LivePill() {
  const { state, waits } = useLiveState();
  const text = { off: "paused", connecting: "connecting", live: "live", lost: "no connection" }[state];
  return (
    <span className={`pill live-${state}`} role="status" title={waits.length ? `weir waits for ${waits.join("; ")}` : undefined}>
      {text}
      {waits.length > 0 && ", weir is behind"}
    </span>
  );
}

function countText(shown: Shown): string {
  if (!shown.total) return shown.rows.length ? plural(shown.rows.length, "alert") + (shown.more ? " loaded" : "") : "";
  return `${integer(shown.total.count)}${shown.total.exact ? "" : " or more"} ${shown.total.count === 1 ? "alert" : "alerts"}`;
}

/** BulkBar is what may be done with the selected ones. */
function BulkBar({ on, total, everything, selectAll, clear, actions }: { on: On; total: number; everything: boolean; selectAll: (() => void) | null; clear: () => void; actions: Actions }) {
  const n = Array.isArray(on) ? on.length : on.count;
  return (
    <div className="bulk" role="toolbar" aria-label="Selected alerts">
      <strong>{everything ? `All ${integer(n)} that match` : `${integer(n)} selected`}</strong>
      {selectAll && !everything && (
        <Button className="link" onPress={selectAll}>
          Select all {integer(total)}
        </Button>
      )}
      <span className="space" />
      <Button className="button" onPress={() => actions.assignMe(on)} isDisabled={!actions.me}>
        Assign to me
      </Button>
      <Button className="button" onPress={() => actions.assign(on)}>
        Assign …
      </Button>
      <Button className="button" onPress={() => actions.progress(on)}>
        In progress
      </Button>
      <Button className="button" onPress={() => actions.tag(on)}>
        Tag …
      </Button>
      {Array.isArray(on) && on.length === 1 && on[0] && <SuppressButton id={on[0].id} />}
      <Button className="button primary" onPress={() => actions.close(on)}>
        Close …
      </Button>
      <Button className="link" onPress={clear}>
        Clear
      </Button>
    </div>
  );
}

function useSelection(list: AlertList, shown: Shown) {
  const [chosen, setChosen] = useState<{ ids: Set<string>; all: boolean; last: number }>({ ids: new Set(), all: false, last: -1 });
  const toggle = useCallback(
    (index: number, extend: boolean) => {
      setChosen((was) => {
        const ids = new Set(was.ids);
        const rows = list.shown.rows;
        const row = rows[index];
        if (!row) return was;
        if (extend && was.last >= 0) {
          for (let i = Math.min(was.last, index); i <= Math.max(was.last, index); i++) {
            const r = rows[i];
            if (r) ids.add(r.id);
          }
        } else if (!ids.delete(row.id)) ids.add(row.id);
        return { ids, all: false, last: index };
      });
    },
    [list],
  );
  const clear = useCallback(() => setChosen({ ids: new Set(), all: false, last: -1 }), []);
  const all = useCallback(() => setChosen({ ids: new Set(list.shown.rows.map((r) => r.id)), all: true, last: -1 }), [list]);
  useEffect(clear, [list, clear]);
  const total = shown.total?.exact ? shown.total.count : shown.rows.length;
  const everything = chosen.all && chosen.ids.size > 0;
  const on: On = everything && shown.more && shown.total?.exact ? { filter: withoutSort(apiQuery(list.search, Date.now())), count: shown.total.count } : targets(list, chosen.ids);
  return { ids: chosen.ids, on, total, everything, toggle, clear, all };
}

function withoutSort(q: Record<string, string>) {
  delete q.sort;
  return q;
}

function targets(list: AlertList, ids: Set<string>) {
  const out = [];
  for (const id of ids) {
    const row = list.shown.rows[list.indexOf(id)];
    if (row) out.push(row);
  }
  return out;
}

function List({ search }: { search: string }) {
  const [list, shown] = useAlertList(search);
  const { density } = usePrefs();
  const narrow = useMedia("(max-width: 760px)");
  const height = narrow ? 104 : density === "compact" ? 32 : 54;
  const box = useRef<HTMLDivElement>(null);
  const [cursor, setCursor] = useState(list.cursor);
  const actions = useActions();
  const selection = useSelection(list, shown);
  // React Compiler is not used; the virtualizer's functions may change.
  const v = useVirtualizer({ count: shown.rows.length, getScrollElement: () => box.current, estimateSize: () => height, overscan: 8, initialOffset: list.scroll });
  useEffect(() => v.measure(), [height, v]);
  useLayoutEffect(() => setCursor(list.cursor), [list]);

  const items = v.getVirtualItems();
  const lastShown = items.at(-1)?.index ?? 0;
  useEffect(() => {
    // The next page is asked for in time, and none that nobody scrolls to.
    if (shown.more && !shown.loading && !shown.error && lastShown > shown.rows.length - Math.min(120, shown.rows.length / 3)) void list.load();
  }, [list, shown, lastShown]);

  const move = (by: number, extend = false) => {
    const to = Math.min(Math.max(0, cursor + by), shown.rows.length - 1);
    if (to < 0) return;
    if (extend) {
      if (selection.ids.size === 0) selection.toggle(cursor, false);
      selection.toggle(to, true);
    }
    setCursor(to);
    list.cursor = to;
    v.scrollToIndex(to, { align: "auto" });
  };
  const point = useCallback(
    (i: number) => {
      setCursor(i);
      list.cursor = i;
    },
    [list],
  );
  const current = shown.rows[cursor];
  const on = (): On => ((Array.isArray(selection.on) ? selection.on.length : 1) > 0 ? selection.on : current ? [current] : []);
  const open = () => current && navigate(`/alerts/${current.id}`);
  const refresh = () => {
    void list.reload();
    box.current?.scrollTo(0, 0);
    setCursor(0);
  };
  useShortcuts({
    j: () => move(1),
    k: () => move(-1),
    "Shift+j": () => move(1, true),
    "Shift+k": () => move(-1, true),
    o: () => open(),
    x: () => selection.toggle(cursor, false),
    a: () => actions.assignMe(on()),
    i: () => actions.progress(on()),
    c: () => actions.close(on()),
    t: () => actions.tag(on()),
    m: () => actions.comment(current ? [current] : []),
    s: () => current && suppressFrom(current.id),
    u: () => undoLast(),
    r: refresh,
    "*": () => selection.all(),
    Escape: () => selection.clear(),
  });
  // These are no character keys: they work in the grid whatever is preferred.
  const onKey = (e: React.KeyboardEvent) => {
    if ((e.ctrlKey || e.metaKey) && e.key === "a" && e.target === box.current) {
      e.preventDefault();
      selection.all();
    }
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const page = Math.max(1, Math.floor((box.current?.clientHeight ?? height) / height) - 1);
    const moves: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    const by = moves[e.key];
    if (by !== undefined) move(by, e.shiftKey && Math.abs(by) === 1);
    else if (e.key === "Enter" && e.target === box.current) open();
    else if (e.key === " " && e.target === box.current) selection.toggle(cursor, false);
    else return;
    e.preventDefault();
  };
  const busy = shown.loading && shown.rows.length === 0;
  return (
    <>
      <div className="list-head" data-search={search} aria-busy={shown.loading}>
        {shown.waiting > 0 ? (
          <Button className="waiting" onPress={refresh}>
            {shown.waiting >= 200 ? "200 or more" : shown.waiting} new or changed: show
          </Button>
        ) : (
          <span className="muted count" role="status">
            {countText(shown)}
          </span>
        )}
        <LivePill />
        <span className="space" />
        <Take search={search} total={shown.total?.exact ? shown.total.count : null} />
        <Button className="link wide-only" onPress={() => setPrefs({ density: density === "compact" ? "comfortable" : "compact" })}>
          {density === "compact" ? "Two lines" : "One line"}
        </Button>
      </div>
      {selection.ids.size > 0 && (
        <BulkBar on={selection.on} total={selection.total} everything={selection.everything} selectAll={selection.ids.size < selection.total ? selection.all : null} clear={selection.clear} actions={actions} />
      )}
      {Boolean(shown.error) && <Failure error={shown.error} what="The alerts cannot be shown" retry={() => void list.load()} />}
      {busy && <Loading what="Reading alerts" />}
      {!busy && !shown.error && shown.rows.length === 0 && (
        <div className="empty">
          <p>
            <strong>No alert matches.</strong>
          </p>
          <p className="muted">
            {search ? "Take a filter away, or look at all alerts." : "Nothing is open. The system page says whether weir sees traffic, and what it cannot see in it."}
          </p>
        </div>
      )}
      <div
        ref={box}
        className={`grid density-${density}`}
        role="grid"
        aria-label="Alerts"
        aria-rowcount={shown.total?.exact ? shown.total.count + 1 : -1}
        aria-multiselectable
        aria-activedescendant={current && items.some((i) => i.index === cursor) ? `row-${current.id}` : undefined}
        tabIndex={0}
        hidden={shown.rows.length === 0}
        onKeyDown={onKey}
        onScroll={(e) => (list.scroll = e.currentTarget.scrollTop)}
      >
        <div role="row" className="row head" aria-rowindex={1}>
          {["", "Severity", "What happened", "Who", "Did it succeed", "Last seen", "State"].map((h, i) => (
            <div role="columnheader" key={h || "select"} className={["c-check", "c-sev", "c-main", "c-who", "c-outcome", "c-time", "c-triage"][i]}>
              {h || <span className="sr-only">Selected</span>}
            </div>
          ))}
        </div>
        <div className="rows" role="rowgroup" style={{ height: v.getTotalSize() }}>
          {items.map((item) => {
            const row = shown.rows[item.index];
            return (
              row && (
                <ListRow
                  // By its place in the window, not by alert: rows are filled anew while
                  // scrolling, which costs a fraction of making them.
                  key={item.index % 96}
                  row={row}
                  index={item.index}
                  top={item.start}
                  height={height}
                  cursor={item.index === cursor}
                  selected={selection.ids.has(row.id)}
                  onSelect={selection.toggle}
                  onCursor={point}
                />
              )
            );
          })}
        </div>
      </div>
    </>
  );
}

export default function AlertsPage() {
  const search = useSearch();
  const group = new URLSearchParams(search).get("group") ?? "";
  return (
    <div className="page page-list">
      <h1 className="sr-only">Alerts</h1>
      <FilterBar />
      {group ? <Grouped by={group} search={search} /> : <List search={search} />}
    </div>
  );
}
