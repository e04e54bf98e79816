// The dialogs of triage: closing with a verdict, comments, tags, assignment, and
// what to do when somebody else was faster.
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent, type ReactNode } from "react";
import { Button, Input, Label, Radio, RadioGroup, Text, TextArea, TextField } from "react-aria-components";
import { ask, isMissing } from "../api/client";
import type { AnyTriage, Triage, TriageChange, Verdict } from "../api/types";
import { statusText, Time, verdicts, verdictText } from "../ui/bits";

interface Props {
  close: () => void;
  submit: (change: TriageChange) => void;
}

function Form({ close, onSubmit, action, children, disabled = false }: { close: () => void; onSubmit: () => void; action: string; children: ReactNode; disabled?: boolean }) {
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (disabled) return;
    close();
    onSubmit();
  };
  return (
    <form
      onSubmit={submit}
      // Fields of React Aria keep keys from their parents: capture.
      onKeyDownCapture={(e) => {
        if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) submit(e);
      }}
    >
      {children}
      <footer>
        <Button className="button" onPress={close}>
          Cancel
        </Button>
        <Button className="button primary" type="submit" isDisabled={disabled}>
          {action}
        </Button>
      </footer>
    </form>
  );
}

export function CloseDialog({ close, submit, many }: Props & { many: number }) {
  const [verdict, setVerdict] = useState<Verdict | "">("");
  const [comment, setComment] = useState("");
  return (
    <Form
      close={close}
      action={many > 1 ? `Close ${many} alerts` : "Close alert"}
      disabled={verdict === ""}
      onSubmit={() => submit({ status: "closed", verdict, ...(comment.trim() ? { comment: comment.trim() } : {}) })}
    >
      <div
        onKeyDownCapture={(e) => {
          const v = verdicts[Number(e.key) - 1];
          if (v) {
            e.preventDefault();
            setVerdict(v.id);
          }
        }}
      >
        <RadioGroup className="radios" aria-label="What was it?" value={verdict} onChange={(v) => setVerdict(v as Verdict)}>
          <Text slot="description" className="muted">
            What was it? Press 1 to {verdicts.length}.
          </Text>
          {verdicts.map((v, i) => (
            <Radio key={v.id} value={v.id} className="radio" autoFocus={i === 0}>
              <kbd>{i + 1}</kbd> {v.text}
            </Radio>
          ))}
        </RadioGroup>
      </div>
      <TextField value={comment} onChange={setComment} maxLength={2000} className="field">
        <Label>Comment (optional)</Label>
        <TextArea rows={3} />
      </TextField>
    </Form>
  );
}

export function CommentDialog({ close, submit }: Props) {
  const [comment, setComment] = useState("");
  return (
    <Form close={close} action="Add comment" disabled={!comment.trim()} onSubmit={() => submit({ comment: comment.trim() })}>
      <TextField value={comment} onChange={setComment} maxLength={2000} className="field" autoFocus>
        <Label>Comment</Label>
        <TextArea rows={5} />
        <Text slot="description" className="muted">
          Everybody who reads the alert sees it; it cannot be taken back. Ctrl+Enter sends.
        </Text>
      </TextField>
    </Form>
  );
}

const tagForm = /^[A-Za-z0-9\-_.:/]{1,64}$/;

export function TagDialog({ close, submit, tags }: Props & { tags: string[] }) {
  const [text, setText] = useState("");
  const [removed, setRemoved] = useState<string[]>([]);
  const add = text.split(/[\s,]+/).filter(Boolean);
  const bad = add.find((t) => !tagForm.test(t));
  return (
    <Form
      close={close}
      action="Save tags"
      disabled={bad !== undefined || (add.length === 0 && removed.length === 0)}
      onSubmit={() => submit({ ...(add.length ? { add_tags: add } : {}), ...(removed.length ? { remove_tags: removed } : {}) })}
    >
      {tags.length > 0 && (
        <div className="chips" role="group" aria-label="Tags now; press one to remove it">
          {tags.map((t) => {
            const gone = removed.includes(t);
            return (
              <Button key={t} className={gone ? "chip gone" : "chip"} aria-label={gone ? `Keep ${t}` : `Remove ${t}`} onPress={() => setRemoved(gone ? removed.filter((x) => x !== t) : [...removed, t])}>
                {t} {gone ? "↺" : "×"}
              </Button>
            );
          })}
        </div>
      )}
      <TextField value={text} onChange={setText} className="field" autoFocus isInvalid={bad !== undefined}>
        <Label>New tags, separated by spaces</Label>
        <Input />
        <Text slot="description" className={bad ? "bad" : "muted"}>
          {bad ? `${bad}: letters, digits and - _ . : / at most 64` : "Letters, digits and - _ . : /"}
        </Text>
      </TextField>
    </Form>
  );
}

export function AssignDialog({ close, submit, me }: Props & { me: string }) {
  const [name, setName] = useState("");
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
  });
  const choose = (assignee: string) => {
    close();
    submit({ assignee });
  };
  return (
    <Form close={close} action="Assign" disabled={!name.trim()} onSubmit={() => submit({ assignee: name.trim() })}>
      <div className="choices">
        {me && (
          <Button className="button" autoFocus onPress={() => choose(me)}>
            Me ({me})
          </Button>
        )}
        {people.data
          ?.filter((p) => p !== me)
          .map((p) => (
            <Button key={p} className="button" onPress={() => choose(p)}>
              {p}
            </Button>
          ))}
        <Button className="button" onPress={() => choose("")}>
          Nobody
        </Button>
      </div>
      <TextField value={name} onChange={setName} className="field" maxLength={128}>
        <Label>Somebody else</Label>
        <Input />
      </TextField>
    </Form>
  );
}

function describe(change: TriageChange): string {
  const parts: string[] = [];
  if (change.status === "closed") parts.push(`close it as ${verdictText(change.verdict ?? "")}`);
  else if (change.status) parts.push(`set it to ${statusText[change.status]}`);
  if (change.assignee !== undefined) parts.push(change.assignee ? `assign it to ${change.assignee}` : "take the assignment away");
  if (change.add_tags?.length) parts.push(`add ${change.add_tags.join(", ")}`);
  if (change.remove_tags?.length) parts.push(`remove ${change.remove_tags.join(", ")}`);
  if (change.comment) parts.push("comment");
  return parts.join(", ");
}

/** ConflictDialog shows what a colleague made of the alert, and asks. */
export function ConflictDialog({ close, was, stored, change, apply }: { close: () => void; was: { status: Triage["status"]; assignee: string; verdict: string; tags: string[] }; stored: AnyTriage | null; change: TriageChange; apply: () => void }) {
  const line = (name: string, before: string, now: string) => (
    <tr className={before === now ? "muted" : "strong"}>
      <th scope="row">{name}</th>
      <td>{before || "–"}</td>
      <td>{now || "–"}</td>
    </tr>
  );
  const last = Array.isArray(stored?.comments) ? stored.comments.at(-1) : undefined;
  return (
    <div>
      <p>
        {stored?.who ? <strong>{stored.who}</strong> : "Somebody"} changed this alert
        {stored?.time && (
          <>
            {" "}
            <Time at={stored.time} relative />
          </>
        )}
        , after you read it. Nothing of yours was stored yet.
      </p>
      {stored && (
        <table className="plain">
          <thead>
            <tr>
              <td />
              <th scope="col">You saw</th>
              <th scope="col">It is now</th>
            </tr>
          </thead>
          <tbody>
            {line("Status", statusText[was.status], statusText[stored.status])}
            {line("Verdict", verdictText(was.verdict), verdictText(stored.verdict))}
            {line("Assignee", was.assignee, stored.assignee)}
            {line("Tags", was.tags.join(", "), stored.tags.join(", "))}
          </tbody>
        </table>
      )}
      {last && (
        <blockquote>
          {last.text}
          <footer className="muted">{last.who}</footer>
        </blockquote>
      )}
      <p>You wanted to {describe(change)}.</p>
      <footer>
        <Button className="button primary" autoFocus onPress={close}>
          Keep theirs
        </Button>
        <Button
          className="button"
          onPress={() => {
            close();
            apply();
          }}
        >
          Make my change to it anyway
        </Button>
      </footer>
    </div>
  );
}
