// Explaining: a client, an alert, a line of a log.
import { useState, type FormEvent } from "react";
import { Button, Input, Label, Radio, RadioGroup, Text, TextArea, TextField } from "react-aria-components";
import { navigate, useSearch } from "../lib/router";
import { PrincipalLink, Section } from "../ui/bits";
import { AlertView, ClientView, LineView, useExplanation, type Wanted, Working } from "../ui/explain";
import { Page } from "../ui/page";
import { Link } from "../lib/router";

type What = "client" | "alert" | "line";

const kinds = ["ip", "account", "subject", "key", "session"];

/** clientOf reads what somebody typed: KIND:VALUE, or an address alone. */
function clientOf(text: string): string {
  const t = text.trim();
  const kind = t.slice(0, t.indexOf(":"));
  if (kinds.includes(kind)) return t;
  return /^[0-9a-f.:/]+$/i.test(t) ? `ip:${t}` : t;
}

function wantedOf(q: URLSearchParams): Wanted | null {
  const client = q.get("client");
  const alert = q.get("alert");
  if (alert) return { alert };
  if (!client) return null;
  const since = q.get("since");
  const until = q.get("until");
  return { client, ...(since ? { since } : {}), ...(until ? { until } : {}) };
}

function Answered({ wanted }: { wanted: Wanted }) {
  const x = useExplanation(wanted);
  const c = x.answer?.client;
  return (
    <Section
      title={"client" in wanted ? "Why did it not fire?" : "alert" in wanted ? "Which requests carry the alert" : "How the line is read"}
      aside={"alert" in wanted ? <Link to={`/alerts/${wanted.alert}`}>To the alert</Link> : c ? <PrincipalLink of={c.principal} /> : undefined}
    >
      <Working of={x} />
      {c && <ClientView c={c} />}
      {x.answer?.alert && <AlertView a={x.answer.alert} />}
      {x.answer?.line && <LineView l={x.answer.line} />}
    </Section>
  );
}

const texts: Record<What, { choice: string; label: string; hint: string; example: string }> = {
  client: { choice: "A client that did not alert", label: "Client", hint: "An address, or ip:, account:, subject:, key: or session: and a value; of an account its name or its token.", example: "203.0.113.7" },
  alert: { choice: "An alert, request by request", label: "Id of the alert", hint: "It stands in the alert's address, and under Versions and id.", example: "7f3c9a…" },
  line: { choice: "A line of a log", label: "Line", hint: "As the log has it. It is read as weir reads it, and stored nowhere.", example: '203.0.113.7 - - [22/Nov/2026:08:00:00 +0000] "GET /.env HTTP/1.1" 404 0' },
};

export default function ExplainPage() {
  const search = useSearch();
  const q = new URLSearchParams(search);
  const [what, setWhat] = useState<What>(q.get("alert") ? "alert" : "client");
  const [text, setText] = useState(q.get("client") ?? q.get("alert") ?? "");
  // A line holds names and addresses: it does not go into the address.
  const [line, setLine] = useState<Wanted | null>(null);
  const wanted = line ?? wantedOf(q);
  const t = texts[what];
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const v = text.trim();
    if (!v) return;
    if (what === "line") {
      setLine({ line: v });
      navigate("/explain");
    } else {
      setLine(null);
      navigate(`/explain?${new URLSearchParams(what === "client" ? { client: clientOf(v) } : { alert: v })}`);
    }
  };
  return (
    <Page title="Explain" lead="Why weir said nothing of a client, which requests carry an alert, and how a line of a log is read. What is stored is detected over again, beside weir's work.">
      <Section title="What to explain">
        <form onSubmit={submit}>
          <RadioGroup
            className="radios inline"
            aria-label="What to explain"
            value={what}
            onChange={(v) => {
              setWhat(v as What);
              setText("");
            }}
          >
            {(Object.keys(texts) as What[]).map((id) => (
              <Radio key={id} value={id} className="radio">
                {texts[id].choice}
              </Radio>
            ))}
          </RadioGroup>
          <TextField className="field" value={text} onChange={(v) => setText(what === "line" ? v.replace(/[\r\n]+/g, "") : v)} maxLength={what === "line" ? 32_768 : 1056}>
            <Label>{t.label}</Label>
            {what === "line" ? <TextArea rows={3} className="mono" spellCheck="false" placeholder={t.example} /> : <Input placeholder={t.example} spellCheck="false" autoCapitalize="none" autoComplete="off" />}
            <Text slot="description" className="muted">
              {t.hint}
            </Text>
          </TextField>
          <Button className="button primary" type="submit" isDisabled={!text.trim()}>
            Explain
          </Button>
        </form>
      </Section>
      {wanted && <Answered key={JSON.stringify(wanted)} wanted={wanted} />}
    </Page>
  );
}
