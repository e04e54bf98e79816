// Suppressions and maintenance windows, and how to end one.
import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Button, Checkbox, Input, Label, TextArea, TextField } from "react-aria-components";
import type { Preview, SuppressionMatch } from "../alerts/suppress";
import { ask } from "../api/client";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import { integer, plural } from "../lib/format";
import { Link, setQuery, useQueryParam } from "../lib/router";
import { toast, toastProblem } from "../lib/toast";
import { Section, Time } from "../ui/bits";
import { closeDialog, showDialog } from "../ui/dialogs";
import { Answer, Page } from "../ui/page";

interface Suppression {
  id: string;
  state: "scheduled" | "active" | "ended";
  match: SuppressionMatch;
  maintenance: boolean;
  schedule: { days?: string[]; from: string; to: string; timezone?: string } | null;
  starts: string;
  expires: string;
  ended: string | null;
  author: string;
  reason: string;
  source: string;
  alert: string;
  hidden: number;
}

/** matchText says in words what a suppression is about. */
export function matchText(m: SuppressionMatch): string {
  const parts: string[] = [];
  if (m.detector) parts.push(m.detector);
  if (m.level) parts.push(`level ${m.level}`);
  if (m.principal?.value) parts.push(`${m.principal.kind} ${m.principal.value}`);
  if (m.address) parts.push(`from ${m.address}`);
  if (m.account) parts.push(`account ${m.account}`);
  if (m.key) parts.push(`key ${m.key}`);
  if (m.client) parts.push(`client ${m.client}`);
  const e = m.endpoint;
  if (e && (e.method || e.host || e.template)) parts.push(`at ${[e.method, `${e.host ?? ""}${e.template ?? ""}`].filter(Boolean).join(" ")}`);
  for (const [k, v] of Object.entries(m.labels ?? {})) if (v) parts.push(`${k}=${v}`);
  return parts.length ? parts.join(", ") : "everything";
}

function NewForm({ close }: { close: () => void }) {
  const client = useQueryClient();
  const [f, setF] = useState({ detector: "", address: "", method: "", template: "", for: "24h", reason: "", maintenance: false });
  const [problem, setProblem] = useState("");
  const [preview, setPreview] = useState<Preview | null>(null);
  const set = (name: keyof typeof f) => (v: string) => {
    setF({ ...f, [name]: v });
    setPreview(null);
  };
  const match: SuppressionMatch = {};
  if (f.detector) match.detector = f.detector.trim();
  if (f.address) match.address = f.address.trim();
  if (f.method || f.template) match.endpoint = { ...(f.method ? { method: f.method.trim().toUpperCase() } : {}), ...(f.template ? { template: f.template.trim() } : {}) };
  const any = Object.keys(match).length > 0 || f.maintenance;
  const body = { match, for: f.for, ...(f.maintenance ? { maintenance: true } : {}) };
  const look = async () => {
    setProblem("");
    try {
      setPreview(await ask<Preview>("/api/v1/suppressions/preview", { method: "POST", body }));
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    try {
      await ask("/api/v1/suppressions", { method: "POST", body: { ...body, reason: f.reason.trim() } });
      close();
      void client.invalidateQueries({ queryKey: ["suppressions"] });
      toast("Suppressed.");
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  const field = (name: "detector" | "address" | "method" | "template" | "for", label: string, hint = "") => (
    <TextField className="field" value={f[name]} onChange={set(name)}>
      <Label>{label}</Label>
      <Input placeholder={hint} />
    </TextField>
  );
  return (
    <form onSubmit={(e) => void submit(e)}>
      <div className="two">
        {field("detector", "Detector or family", "auth.stuffing or auth")}
        {field("address", "Address or network", "192.0.2.0/24")}
        {field("method", "Method", "POST")}
        {field("template", "Endpoint", "/export/{id}")}
        {field("for", "For", "4h, 24h, 7d")}
      </div>
      <Checkbox className="check" isSelected={f.maintenance} onChange={(v) => setF({ ...f, maintenance: v })}>
        <span className="box" /> Maintenance: a load or penetration test; only a success gets through
      </Checkbox>
      <TextField className="field" value={f.reason} onChange={set("reason")} maxLength={500}>
        <Label>Why (needed, 8 characters and more)</Label>
        <TextArea rows={2} />
      </TextField>
      {preview && (
        <p className="preview" role="status">
          In the last days it would have hidden <strong>{plural(preview.alerts, "alert")}</strong>, {integer(preview.pages)} of them pages, {integer(preview.succeeded)} where something succeeded.
        </p>
      )}
      {problem && (
        <p className="bad" role="alert">
          {problem}
        </p>
      )}
      <footer>
        <Button className="button" onPress={close}>
          Cancel
        </Button>
        <Button className="button" isDisabled={!any} onPress={() => void look()}>
          What would it have hidden?
        </Button>
        <Button className="button primary" type="submit" isDisabled={!any || f.reason.trim().length < 8}>
          Suppress
        </Button>
      </footer>
    </form>
  );
}

function End({ s }: { s: Suppression }) {
  const client = useQueryClient();
  const end = async () => {
    try {
      await ask(`/api/v1/suppressions/${encodeURIComponent(s.id)}`, { method: "DELETE" });
      void client.invalidateQueries({ queryKey: ["suppressions"] });
      toast("It has ended; what it covered wakes people again.");
    } catch (e) {
      toastProblem("It goes on", e);
    }
  };
  const confirm = () =>
    showDialog("End this suppression?", () => (
      <div>
        <p>{matchText(s.match)} will wake people again.</p>
        <footer>
          <Button className="button" onPress={closeDialog}>
            Cancel
          </Button>
          <Button
            className="button primary"
            onPress={() => {
              closeDialog();
              void end();
            }}
          >
            End it
          </Button>
        </footer>
      </div>
    ));
  return (
    <Button className="button small" onPress={confirm} isDisabled={s.source === "config"}>
      End
    </Button>
  );
}

export default function SuppressionsPage() {
  const state = useQueryParam("state");
  const may = useMay("suppress");
  const q = usePart<{ data: Suppression[] }>(["suppressions", state], "/api/v1/suppressions", { state: state === "all" ? undefined : state || "active,scheduled" }, { every: 60_000, keep: true });
  return (
    <Page
      title="Suppressions"
      lead="What nobody is woken by. It is still found, stored and shown; a first success, or ten times as much, gets through."
      aside={
        may && (
          <Button className="button primary" onPress={() => showDialog("Suppress alerts", (close) => <NewForm close={close} />)}>
            New …
          </Button>
        )
      }
    >
      <nav className="views" aria-label="State">
        {[
          ["", "In force and to come"],
          ["ended", "Ended"],
          ["all", "All"],
        ].map(([id, text]) => (
          <Button key={id} className={state === id ? "link strong" : "link"} aria-pressed={state === id} onPress={() => setQuery({ state: id ?? null })}>
            {text}
          </Button>
        ))}
      </nav>
      <Answer of={q} what="The suppressions">
        {(d) => (
          <Section title={plural(d.data.length, "suppression")}>
            {d.data.length === 0 && <p className="muted">Nothing is suppressed.</p>}
            <ul className="groups">
              {d.data.map((s) => (
                <li key={s.id} className="suppression">
                  <div>
                    <strong className="break">{matchText(s.match)}</strong> {s.maintenance && <span className="flag">maintenance</span>}
                    <div>{s.reason}</div>
                    <div className="second">
                      {s.author} ({s.source}); {s.state === "ended" ? "ended" : s.state === "scheduled" ? "begins" : "until"} <Time at={s.state === "ended" ? (s.ended ?? s.expires) : s.state === "scheduled" ? s.starts : s.expires} />
                      {s.schedule && `; ${s.schedule.days?.join(", ") ?? "every day"} ${s.schedule.from} to ${s.schedule.to} ${s.schedule.timezone ?? ""}`}
                      {s.alert && (
                        <>
                          ; from <Link to={`/alerts/${s.alert}`}>an alert</Link>
                        </>
                      )}
                    </div>
                  </div>
                  <span className="num">
                    {integer(s.hidden)} hidden
                  </span>
                  {may && s.state !== "ended" && <End s={s} />}
                </li>
              ))}
            </ul>
          </Section>
        )}
      </Answer>
    </Page>
  );
}
