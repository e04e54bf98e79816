// Views that somebody saved under a name, and taking the list elsewhere: a link, a
// file. Saved views are kept in this browser; a link is how a colleague gets one.
import { useState, type FormEvent } from "react";
import { Button, Input, Label, Radio, RadioGroup, Text, TextField } from "react-aria-components";
import { urlOf } from "../api/client";
import { plural } from "../lib/format";
import { setPrefs, usePrefs } from "../lib/prefs";
import { Link } from "../lib/router";
import { toast } from "../lib/toast";
import { showDialog } from "../ui/dialogs";
import { exportQuery, views } from "./filters";

const most = 20;

function SaveForm({ search, close }: { search: string; close: () => void }) {
  const { views: saved } = usePrefs();
  const [name, setName] = useState("");
  const taken = views.some((v) => v.name === name.trim());
  const replaces = saved.some((v) => v.name === name.trim());
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!name.trim() || taken) return;
    setPrefs({ views: [...saved.filter((v) => v.name !== name.trim()), { name: name.trim(), search }].slice(-most) });
    close();
    toast(`Saved as ${name.trim()}.`);
  };
  return (
    <form onSubmit={submit}>
      <TextField className="field" value={name} onChange={setName} maxLength={40} autoFocus isInvalid={taken}>
        <Label>Name of the view</Label>
        <Input autoComplete="off" />
        <Text slot="description" className={taken ? "bad" : "muted"}>
          {taken ? "That one is there already." : replaces ? "The view of this name is replaced." : "Filters, grouping and order are kept in this browser, for you alone. Copy link gives them to a colleague."}
        </Text>
      </TextField>
      <footer>
        <Button className="button" onPress={close}>
          Cancel
        </Button>
        <Button className="button primary" type="submit" isDisabled={!name.trim() || taken}>
          Save view
        </Button>
      </footer>
    </form>
  );
}

export function SavedViews({ search }: { search: string }) {
  const { views: saved } = usePrefs();
  return (
    <>
      {saved.map((v) => (
        <Link key={v.name} to={"/alerts" + v.search} aria-current={search === v.search ? "page" : undefined}>
          {v.name}
        </Link>
      ))}
    </>
  );
}

/** ViewActions saves the filters that are set, or gives a saved view up. */
export function ViewActions({ search }: { search: string }) {
  const { views: saved } = usePrefs();
  const here = saved.find((v) => v.search === search);
  if (views.some((v) => v.search === search)) return null;
  if (here)
    return (
      <Button
        className="link"
        onPress={() => {
          setPrefs({ views: saved.filter((v) => v !== here) });
          toast(`${here.name} is no view any more.`, { undo: () => setPrefs({ views: saved }) });
        }}
      >
        Remove this view
      </Button>
    );
  return (
    <Button className="link" onPress={() => showDialog("Save this view", (close) => <SaveForm search={search} close={close} />)}>
      Save view …
    </Button>
  );
}

function ExportForm({ search, total, close }: { search: string; total: number | null; close: () => void }) {
  const [format, setFormat] = useState("csv");
  const [query] = useState(() => exportQuery(search, Date.now()));
  return (
    <div>
      <RadioGroup className="radios" value={format} onChange={setFormat}>
        <Label>{total === null ? "All that the filters select" : `All ${plural(total, "alert")} that the filters select`}, as</Label>
        <Radio value="csv" className="radio">
          CSV, a row each: for a spreadsheet
        </Radio>
        <Radio value="ndjson" className="radio">
          NDJSON, a whole alert on each line: for programs
        </Radio>
      </RadioGroup>
      <p className="muted">At most 100,000. Account names stay tokens. The audit keeps who exported what.</p>
      <footer>
        <Button className="button" onPress={close}>
          Cancel
        </Button>
        <a className="button primary" href={urlOf("/api/v1/alerts/export", { ...query, format })} download={`alerts.${format}`} onClick={() => setTimeout(close, 300)}>
          Export
        </a>
      </footer>
    </div>
  );
}

/** Take are the ways to take the list elsewhere. */
export function Take({ search, total }: { search: string; total: number | null }) {
  const copy = () => {
    const url = location.origin + location.pathname + location.search;
    const done = () => toast("The link is copied: it shows this list, to those who may see it.");
    const failed = () => toast(`Copy it from here: ${url}`);
    if (navigator.clipboard) void navigator.clipboard.writeText(url).then(done, failed);
    else failed();
  };
  return (
    <>
      <Button className="link" onPress={copy}>
        Copy link
      </Button>
      <Button className="link" onPress={() => showDialog("Export alerts", (close) => <ExportForm search={search} total={total} close={close} />)}>
        Export …
      </Button>
    </>
  );
}
