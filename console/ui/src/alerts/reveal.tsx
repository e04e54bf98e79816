// Opening the names behind tokens: for a reason, which the audit keeps. Names
// are held in memory alone, until the page is left.
import { useState, useSyncExternalStore, type FormEvent } from "react";
import { Button, Input, Label, Text, TextField } from "react-aria-components";
import { ask } from "../api/client";
import { useMay } from "../api/session";
import { shortToken } from "../lib/format";
import { showDialog } from "../ui/dialogs";
import { Icon } from "../ui/icons";

let names: ReadonlyMap<string, string | null> = new Map();
const changed = new Set<() => void>();

function learn(list: { token: string; name: string | null }[]) {
  names = new Map([...names, ...list.map((x) => [x.token, x.name] as const)]);
  for (const f of changed) f();
}

function RevealForm({ tokens, alert, close }: { tokens: string[]; alert: string; close: () => void }) {
  const [reason, setReason] = useState("");
  const [problem, setProblem] = useState("");
  const ready = reason.trim().length >= 8;
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    if (!ready) return;
    try {
      for (let i = 0; i < tokens.length; i += 200) {
        const answer = await ask<{ data: { token: string; name: string | null }[] }>("/api/v1/reveal", {
          method: "POST",
          body: { tokens: tokens.slice(i, i + 200), reason: reason.trim(), ...(alert ? { alert } : {}) },
        });
        learn(answer.data);
      }
      close();
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  return (
    <form onSubmit={(e) => void submit(e)}>
      <p>
        {tokens.length === 1 ? "One account name" : `${tokens.length} account names`} will be shown to you. The audit keeps who opened which, when and why.
      </p>
      <TextField className="field" value={reason} onChange={setReason} maxLength={500} autoFocus>
        <Label>Reason, at least 8 characters</Label>
        <Input />
        <Text slot="description" className="muted">
          Such as: reset the passwords, case 4711
        </Text>
      </TextField>
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
          Show names
        </Button>
      </footer>
    </form>
  );
}

export function RevealButton({ tokens, alert }: { tokens: string[]; alert: string }) {
  const may = useMay("reveal");
  const known = useNames();
  const closed = tokens.filter((t) => t.startsWith("u_") && !known.has(t));
  if (!may || closed.length === 0) return null;
  return (
    <Button className="button small" onPress={() => showDialog("Show account names", (close) => <RevealForm tokens={closed} alert={alert} close={close} />)}>
      <Icon name="eye" /> Show {closed.length === 1 ? "the name" : `${closed.length} names`} …
    </Button>
  );
}

export function useNames() {
  return useSyncExternalStore(
    (f) => {
      changed.add(f);
      return () => void changed.delete(f);
    },
    () => names,
  );
}

/** AccountName is a token, or the name that was opened. */
export function AccountName({ token }: { token: string }) {
  const name = useNames().get(token);
  if (name) return <span className="opened">{name}</span>;
  return (
    <span className="mono" title={token}>
      {shortToken(token)}
      {name === null && <span className="muted"> (does not open)</span>}
    </span>
  );
}

/** Named is a text of weir with the accounts in it as they are known here: tokens, or names that were opened. */
export function Named({ text }: { text: string }) {
  if (!text.includes("u_")) return <>{text}</>;
  return (
    <>
      {text.split(/(u_[A-Za-z0-9_-]{20,})/).map((part, i) => (i % 2 ? <AccountName key={i} token={part} /> : part))}
    </>
  );
}
