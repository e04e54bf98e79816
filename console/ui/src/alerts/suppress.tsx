// Suppressing from an alert: what is to match, for how long and why, and first
// what it would have hidden.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState, type FormEvent } from "react";
import { Button, Checkbox, CheckboxGroup, Label, Radio, RadioGroup, Text, TextArea, TextField } from "react-aria-components";
import { ask, isMissing, Problem } from "../api/client";
import type { Alert } from "../api/types";
import { integer, plural, principalText } from "../lib/format";
import { toast, toastProblem } from "../lib/toast";
import { useMay } from "../api/session";
import { Failure, Loading } from "../ui/bits";
import { showDialog } from "../ui/dialogs";

export interface SuppressionMatch {
  detector?: string;
  level?: string;
  principal?: { kind: string; value: string };
  address?: string;
  account?: string;
  key?: string;
  client?: string;
  endpoint?: { method?: string; host?: string; template?: string };
  labels?: Record<string, string>;
}

export interface Preview {
  days?: number;
  truncated?: boolean;
  alerts: number;
  pages: number;
  succeeded: number;
  sample?: { id: string; title: string; severity?: string }[];
}

const periods = [
  { id: "4h", text: "4 hours" },
  { id: "24h", text: "1 day" },
  { id: "7d", text: "7 days" },
  { id: "30d", text: "30 days" },
];

export function useLatest(id: string) {
  return useQuery({
    queryKey: ["alert", id],
    queryFn: ({ signal }) => ask<{ data: Alert[]; more: boolean }>(`/api/v1/alerts/${id}`, { signal }),
    select: (d) => d.data.at(-1),
  });
}

function matchOf(a: Alert, parts: string[]): SuppressionMatch {
  const m: SuppressionMatch = {};
  if (parts.includes("detector")) m.detector = a.detector;
  if (parts.includes("principal")) m.principal = a.principal;
  if (parts.includes("endpoint")) {
    m.endpoint = { method: a.endpoint.method, template: a.endpoint.template, ...(a.endpoint.host ? { host: a.endpoint.host } : {}) };
  }
  if (parts.includes("labels")) m.labels = Object.fromEntries(Object.entries(a.labels).filter(([, v]) => v));
  return m;
}

function PreviewBox({ match, alert }: { match: SuppressionMatch; alert: string }) {
  const q = useQuery({
    queryKey: ["suppression-preview", match, alert],
    queryFn: ({ signal }) => ask<Preview>("/api/v1/suppressions/preview", { method: "POST", body: { match, alert, days: 30 }, signal }),
    staleTime: 60_000,
    retry: false,
  });
  if (q.error && isMissing(q.error)) return <p className="muted">This weir cannot say what it would have hidden.</p>;
  if (q.error) return <p className="bad">{q.error.message}</p>;
  if (!q.data) return <p className="muted">Looking at what it would have hidden …</p>;
  const p = q.data;
  return (
    <div className="preview" role="status">
      <p>
        In {p.days ? `the last ${p.days} days` : "the alerts that are stored"} it would have hidden <strong>{plural(p.alerts, "alert")}</strong>, {integer(p.pages)} of them pages
        {p.succeeded > 0 ? (
          <>
            {" "}
            and <strong className="worked">{integer(p.succeeded)} where something succeeded</strong>
          </>
        ) : (
          "; in none did anything succeed"
        )}
        .
      </p>
      {p.sample && p.sample.length > 0 && (
        <ul>
          {p.sample.slice(0, 4).map((s) => (
            <li key={s.id}>{s.title}</li>
          ))}
        </ul>
      )}
    </div>
  );
}

function SuppressForm({ alert, close }: { alert: Alert; close: () => void }) {
  const client = useQueryClient();
  const labels = Object.entries(alert.labels).filter(([, v]) => v);
  const offered = useMemo(() => {
    const all: { id: string; text: string }[] = [{ id: "detector", text: `detector ${alert.detector}` }];
    if (alert.level !== "endpoint" && alert.level !== "campaign") all.push({ id: "principal", text: principalText(alert.principal) });
    if (alert.endpoint.template) all.push({ id: "endpoint", text: `${alert.endpoint.method} ${alert.endpoint.template}` });
    if (labels.length) all.push({ id: "labels", text: labels.map(([k, v]) => `${k}=${v}`).join(", ") });
    return all;
  }, [alert, labels]);
  const [parts, setParts] = useState<string[]>(() => offered.map((o) => o.id).filter((id) => id !== "labels"));
  const [period, setPeriod] = useState("24h");
  const [reason, setReason] = useState("");
  const [problem, setProblem] = useState("");
  const match = useMemo(() => matchOf(alert, parts), [alert, parts]);
  const ready = parts.length > 0 && reason.trim().length >= 8;
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    if (!ready) return;
    try {
      const made = await ask<{ id?: string; data?: { id: string } }>("/api/v1/suppressions", {
        method: "POST",
        body: { match, for: period, reason: reason.trim(), alert: alert.id },
      });
      close();
      const id = made.id ?? made.data?.id ?? "";
      const reread = () => {
        void client.invalidateQueries({ queryKey: ["suppressions"] });
        void client.invalidateQueries({ queryKey: ["alert", alert.id] });
      };
      reread();
      toast(`Suppressed for ${periods.find((p) => p.id === period)?.text}.`, {
        undo: id
          ? () =>
              void ask(`/api/v1/suppressions/${encodeURIComponent(id)}`, { method: "DELETE" })
                .then(() => {
                  toast("The suppression has ended.");
                  reread();
                })
                .catch((e: unknown) => toastProblem("The suppression stays", e))
          : undefined,
      });
    } catch (e) {
      setProblem(e instanceof Problem && isMissing(e) ? "This weir has no suppressions." : e instanceof Error ? e.message : String(e));
    }
  };
  return (
    <form onSubmit={(e) => void submit(e)}>
      <CheckboxGroup className="radios" value={parts} onChange={setParts}>
        <Label>Alerts where all of this holds</Label>
        {offered.map((o) => (
          <Checkbox key={o.id} value={o.id} className="check">
            <span className="box" /> {o.text}
          </Checkbox>
        ))}
      </CheckboxGroup>
      {parts.length > 0 ? <PreviewBox match={match} alert={alert.id} /> : <p className="bad">Choose at least one: nothing may hide everything.</p>}
      <RadioGroup className="radios inline" value={period} onChange={setPeriod}>
        <Label>For</Label>
        {periods.map((p) => (
          <Radio key={p.id} value={p.id} className="radio">
            {p.text}
          </Radio>
        ))}
      </RadioGroup>
      <TextField className="field" value={reason} onChange={setReason} maxLength={500} isRequired>
        <Label>Why (needed; it is in the audit)</Label>
        <TextArea rows={2} />
      </TextField>
      <Text slot="description" className="muted">
        Suppressed alerts are still detected, stored and shown; nobody is woken. A first success, or ten times as much, still gets through.
      </Text>
      {problem && (
        <p className="bad" role="alert">
          {problem}
        </p>
      )}
      <footer>
        <Button className="button" onPress={close}>
          Cancel
        </Button>
        <Button className="button primary" type="submit" isDisabled={!ready}>
          Suppress
        </Button>
      </footer>
    </form>
  );
}

function Body({ id, close }: { id: string; close: () => void }) {
  const q = useLatest(id);
  if (q.error) return <Failure error={q.error} />;
  if (!q.data) return <Loading />;
  return <SuppressForm alert={q.data} close={close} />;
}

/** suppressFrom opens the dialog for an alert. */
export function suppressFrom(id: string) {
  showDialog("Suppress alerts like this", (close) => <Body id={id} close={close} />);
}

export function SuppressButton({ id }: { id: string }) {
  const may = useMay("suppress") || useMay("triage");
  return may ? (
    <Button className="button" onPress={() => suppressFrom(id)}>
      Suppress …
    </Button>
  ) : null;
}

