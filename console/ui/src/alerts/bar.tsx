// The filters above the list.
import { useQuery } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Button, Menu, MenuItem, MenuTrigger, Popover, type Selection } from "react-aria-components";
import { ask, isMissing } from "../api/client";
import { useMe } from "../api/session";
import { useSearch, setQuery, Link } from "../lib/router";
import { useShortcuts } from "../lib/shortcuts";
import { severities, verdicts } from "../ui/bits";
import { Icon } from "../ui/icons";
import { periods, split, views, work } from "./filters";
import { SavedViews, ViewActions } from "./views";

interface Choice {
  id: string;
  text: string;
}

/** Pick is a menu of values; the button says what is chosen. */
function Pick({ label, choices, chosen, onChange, multiple = false, nothing }: { label: string; choices: Choice[]; chosen: string[]; onChange: (v: string[]) => void; multiple?: boolean; nothing: string }) {
  const text = chosen.length === 0 ? nothing : chosen.length === choices.length && multiple ? "any" : chosen.map((c) => choices.find((x) => x.id === c)?.text ?? c).join(", ");
  return (
    <MenuTrigger>
      <Button className={chosen.length ? "pick set" : "pick"}>
        <span className="muted">{label}</span> <span className="value">{text}</span> <Icon name="down" />
      </Button>
      <Popover className="popover">
        <Menu
          className="menu"
          aria-label={label}
          selectionMode={multiple ? "multiple" : "single"}
          selectedKeys={chosen.length ? chosen : multiple ? [] : [""]}
          onSelectionChange={(keys: Selection) => onChange(keys === "all" ? choices.map((c) => c.id) : [...keys].map(String).filter(Boolean))}
        >
          {(multiple ? choices : [{ id: "", text: nothing }, ...choices]).map((c) => (
            <MenuItem key={c.id} id={c.id} textValue={c.text} className="menu-item">
              {({ isSelected }) => (
                <>
                  <span className="tick">{isSelected && <Icon name="check" />}</span>
                  {c.text}
                </>
              )}
            </MenuItem>
          ))}
        </Menu>
      </Popover>
    </MenuTrigger>
  );
}

const states: Choice[] = [
  { id: "new", text: "new" },
  { id: "in_progress", text: "in progress" },
  { id: "closed", text: "closed" },
];

const groups: Choice[] = ["detector", "principal", "endpoint", "campaign", "severity", "assignee", "triage"].map((id) => ({ id, text: id === "triage" ? "state" : id }));

const sorts: Choice[] = [
  { id: "severity", text: "severity" },
  { id: "score", text: "score" },
  { id: "first", text: "oldest first" },
];

export const detectorNames = [
  "enum.object", "enum.user", "probe.path", "auth.bruteforce", "auth.stuffing", "auth.spraying", "auth.takeover", "scrape.crawl",
  "key.misuse", "data.exposure", "inject.probe", "volume.flood", "health.source_silent", "health.collector_silent", "health.endpoint", "health.logins", "health.rejects", "health.lag", "health.loss", "health.identity",
];

/** shownAsChips are filters that other pages link to, or that are typed. */
const shownAsChips = ["principal", "address", "endpoint", "campaign", "tag", "verdict", "label", "tier", "status", "until", "backfill", "suppressed"];

function chipText(name: string, value: string): string {
  if (name === "suppressed" && value === "any") return "also suppressed ones";
  if (name === "verdict") return `verdict: ${verdicts.find((v) => v.id === value)?.short ?? value}`;
  return `${name}: ${value}`;
}

export function FilterBar() {
  const search = useSearch();
  const q = new URLSearchParams(search);
  const me = useMe().data?.name ?? "";
  const input = useRef<HTMLInputElement>(null);
  const [open, setOpen] = useState(false);
  const [text, setText] = useState(q.get("q") ?? "");
  const [seen, setSeen] = useState(q.get("q") ?? "");
  if ((q.get("q") ?? "") !== seen) {
    setSeen(q.get("q") ?? "");
    setText(q.get("q") ?? "");
  }
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useShortcuts({ "/": () => input.current?.focus() });
  const people = useQuery({
    queryKey: ["assignees"],
    queryFn: async ({ signal }) => {
      try {
        return (await ask<{ data: string[] }>("/api/v1/assignees", { signal })).data;
      } catch (e) {
        if (isMissing(e)) return [];
        throw e;
      }
    },
    staleTime: 60_000,
  });
  const set = (name: string) => (v: string[]) => setQuery({ [name]: v.join(",") || null });
  const triage = q.get("triage");
  const chosenStates = triage === "any" ? states.map((s) => s.id) : split(triage ?? work);
  const setStates = (v: string[]) => {
    const text = states.map((s) => s.id).filter((s) => v.includes(s)).join(",");
    setQuery({ triage: text === work || text === "" ? null : v.length === states.length ? "any" : text });
  };
  const type = (value: string) => {
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setSeen(value.trim());
      setQuery({ q: value.trim() || null }, { replace: true });
    }, 100);
  };
  const chips = shownAsChips.filter((name) => q.get(name));
  const filtered = [...q.keys()].some((k) => k !== "group" && k !== "sort");
  const names = [me, ...(people.data ?? []).filter((p) => p !== me)].filter(Boolean);
  return (
    <div className={open ? "filters open" : "filters"}>
      <nav className="views" aria-label="Views">
        {views.map((v) => (
          <Link key={v.name} to={"/alerts" + v.search} aria-current={search === v.search ? "page" : undefined}>
            {v.name}
          </Link>
        ))}
        {me && (
          <Link to={`/alerts?assignee=${encodeURIComponent(me)}`} aria-current={search === `?assignee=${encodeURIComponent(me)}` ? "page" : undefined}>
            Mine
          </Link>
        )}
        <SavedViews search={search} />
      </nav>
      <div className="search">
        <Icon name="search" />
        <input
          ref={input}
          type="search"
          aria-label="Search alerts"
          placeholder="Words, address, endpoint, tag ..."
          value={text}
          maxLength={200}
          onChange={(e) => type(e.target.value)}
          onKeyDown={(e) => {
            if (e.key === "Escape" && !text) input.current?.blur();
          }}
        />
      </div>
      <Button className="pick only-narrow" aria-expanded={open} onPress={() => setOpen(!open)}>
        Filters{chips.length > 0 && ` (${chips.length})`} <Icon name="down" />
      </Button>
      <div className="picks">
        <Pick label="Severity" nothing="any" multiple choices={severities.map((s) => ({ id: s, text: s }))} chosen={split(q.get("severity"))} onChange={set("severity")} />
        <Pick label="State" nothing="none" multiple choices={states} chosen={chosenStates} onChange={setStates} />
        <Pick label="Detector" nothing="any" multiple choices={detectorNames.map((d) => ({ id: d, text: d }))} chosen={split(q.get("detector"))} onChange={set("detector")} />
        <Pick
          label="Assignee"
          nothing="anybody"
          choices={[{ id: "-", text: "nobody" }, ...names.map((n) => ({ id: n, text: n === me ? `${n} (me)` : n }))]}
          chosen={split(q.get("assignee"))}
          onChange={set("assignee")}
        />
        <Pick label="Active in" nothing="any time" choices={periods} chosen={split(q.get("since"))} onChange={set("since")} />
        <Pick label="Group by" nothing="nothing" choices={groups} chosen={split(q.get("group"))} onChange={set("group")} />
        <Pick label="Sort" nothing="latest change" choices={sorts} chosen={split(q.get("sort"))} onChange={set("sort")} />
      </div>
      {(chips.length > 0 || filtered || q.get("group") || q.get("sort")) && (
        <div className="chips">
          {chips.map((name) => (
            <Button key={name} className="chip" onPress={() => setQuery({ [name]: null })}>
              {chipText(name, q.get(name) ?? "")} <span aria-hidden="true">×</span>
              <span className="sr-only">, remove this filter</span>
            </Button>
          ))}
          {filtered && (
            <Link className="clear" to={q.get("group") ? `/alerts?group=${q.get("group")}` : "/alerts"}>
              Clear filters
            </Link>
          )}
          <ViewActions search={search} />
        </div>
      )}
    </div>
  );
}
