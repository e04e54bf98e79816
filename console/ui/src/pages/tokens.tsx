// Tokens of scripts, SIEMs and sinks: made, shown once, and revoked.
import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Button, Checkbox, CheckboxGroup, Input, Label, Radio, RadioGroup, Text, TextField } from "react-aria-components";
import { ask } from "../api/client";
import { usePart } from "../api/part";
import { useMay } from "../api/session";
import type { ApiToken } from "../api/types";
import { plural } from "../lib/format";
import { Link, setQuery, useQueryParam } from "../lib/router";
import { toast, toastProblem } from "../lib/toast";
import { Copy, Section, Time } from "../ui/bits";
import { closeDialog, showDialog } from "../ui/dialogs";
import { Answer, Page } from "../ui/page";

const roles: [string, string][] = [
  ["feed", "a machine: reads the feed of alerts, its own place in it, and decisions"],
  ["viewer", "reads alerts"],
  ["analyst", "reads requests, triages, suppresses, opens names with a reason"],
  ["engineer", "as analyst; tries and applies configurations, sees who reads the feeds"],
  ["auditor", "reads the audit"],
  ["admin", "everything"],
];

const periods: [string, string, number][] = [
  ["30d", "30 days", 30],
  ["90d", "90 days", 90],
  ["1y", "1 year", 365],
  ["never", "never", 0],
];

/** Made shows a new token, this once. */
function Made({ token, name, close }: { token: string; name: string; close: () => void }) {
  return (
    <div>
      <p>
        This is the token of <strong>{name}</strong>. It is shown now and never again; weir keeps no copy of it.
      </p>
      <p className="secret">
        <code className="break" tabIndex={0} aria-label="The token">
          {token}
        </code>{" "}
        <Copy text={token} label="Copy the token" />
      </p>
      <p className="muted">Requests carry it as: Authorization: Bearer weir_…</p>
      <footer>
        <Button className="button primary" onPress={close}>
          I have it
        </Button>
      </footer>
    </div>
  );
}

function NewToken({ close }: { close: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState<string[]>(["feed"]);
  const [period, setPeriod] = useState("90d");
  const [problem, setProblem] = useState("");
  const [made, setMade] = useState("");
  if (made) return <Made token={made} name={name.trim()} close={close} />;
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    const days = periods.find(([id]) => id === period)?.[2] ?? 0;
    const expires = days ? new Date(Date.now() + days * 86_400_000).toISOString() : "never";
    try {
      const answer = await ask<{ token: string }>("/api/v1/tokens", { method: "POST", body: { name: name.trim(), roles: chosen, expires } });
      setMade(answer.token);
      void client.invalidateQueries({ queryKey: ["tokens"] });
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  return (
    <form onSubmit={(e) => void submit(e)}>
      <TextField className="field" value={name} onChange={setName} isRequired autoFocus maxLength={64}>
        <Label>Name</Label>
        <Input autoComplete="off" spellCheck="false" placeholder="siem" />
        <Text slot="description" className="muted">
          What will use it, so that everybody knows what to revoke.
        </Text>
      </TextField>
      <CheckboxGroup className="radios" value={chosen} onChange={setChosen}>
        <Label>It may</Label>
        {roles.map(([id, text]) => (
          <Checkbox key={id} value={id} className="check">
            <span className="box" /> <strong>{id}</strong> <span className="muted">{text}</span>
          </Checkbox>
        ))}
      </CheckboxGroup>
      <RadioGroup className="radios inline" value={period} onChange={setPeriod}>
        <Label>It ends after</Label>
        {periods.map(([id, text]) => (
          <Radio key={id} value={id} className="radio">
            {text}
          </Radio>
        ))}
      </RadioGroup>
      {problem && (
        <p className="bad" role="alert">
          {problem}
        </p>
      )}
      <footer>
        <Button className="button" onPress={close}>
          Cancel
        </Button>
        <Button className="button primary" type="submit" isDisabled={!name.trim() || chosen.length === 0}>
          Make the token
        </Button>
      </footer>
    </form>
  );
}

function Revoke({ t }: { t: ApiToken }) {
  const client = useQueryClient();
  const revoke = async () => {
    try {
      await ask(`/api/v1/tokens/${encodeURIComponent(t.id)}`, { method: "DELETE" });
      toast(`${t.name} was revoked; what uses it is refused from now on.`);
    } catch (e) {
      toastProblem("It was not revoked", e);
    }
    void client.invalidateQueries({ queryKey: ["tokens"] });
  };
  const confirm = () =>
    showDialog(`Revoke ${t.name}?`, () => (
      <div>
        <p>What uses this token is refused at once. It cannot be taken back.</p>
        {t.last_used && (
          <p>
            It was last used <Time at={t.last_used} relative />.
          </p>
        )}
        <footer>
          <Button className="button" onPress={closeDialog} autoFocus>
            Cancel
          </Button>
          <Button
            className="button primary"
            onPress={() => {
              closeDialog();
              void revoke();
            }}
          >
            Revoke it
          </Button>
        </footer>
      </div>
    ));
  return (
    <Button className="button small" aria-label={`Revoke ${t.name}`} onPress={confirm}>
      Revoke …
    </Button>
  );
}

function stateOf(t: ApiToken) {
  if (t.revoked) return <span className="flag">revoked</span>;
  if (!t.usable) return <span className="flag">expired</span>;
  return null;
}

export default function TokensPage() {
  const may = useMay("tokens");
  const all = useQueryParam("state") === "all";
  const q = usePart<{ data: ApiToken[] }>(["tokens"], "/api/v1/tokens", {}, { enabled: may, every: 60_000 });
  return (
    <Page
      title="Tokens"
      lead={
        <>
          For scripts, SIEMs and gateways, instead of a person's sign-in. People are under <Link to="/users">Users</Link>.
        </>
      }
      aside={
        may && (
          <Button className="button primary" onPress={() => showDialog("New token", (close) => <NewToken close={close} />)}>
            New token …
          </Button>
        )
      }
    >
      {!may && <p className="empty muted">Tokens are for administrators.</p>}
      {may && (
        <Answer of={q} what="The tokens">
          {(d) => {
            const shown = (all ? d.data : d.data.filter((t) => t.usable)).toReversed();
            const rest = d.data.length - d.data.filter((t) => t.usable).length;
            return (
              <Section
                title={all ? plural(shown.length, "token") : `${plural(shown.length, "token")} in force`}
                aside={
                  (rest > 0 || all) && (
                    <Button className="link" aria-pressed={all} onPress={() => setQuery({ state: all ? null : "all" })}>
                      {all ? "Only those in force" : `Also ${rest} that ended`}
                    </Button>
                  )
                }
              >
                {shown.length === 0 && <p className="muted">There is none.</p>}
                <ul className="groups">
                  {shown.map((t) => (
                    <li key={t.id} className="suppression">
                      <div>
                        <strong className="break">{t.name}</strong> {stateOf(t)}
                        {t.roles.map((r) => (
                          <span key={r} className="flag tag">
                            {r}
                          </span>
                        ))}
                        <div className="second">
                          <span className="mono">weir_{t.id}_…</span> made by {t.creator || "the shell"} <Time at={t.created} />;{" "}
                          {t.revoked ? (
                            <>
                              revoked <Time at={t.revoked} />
                            </>
                          ) : t.expires ? (
                            <>
                              {t.usable ? "ends" : "ended"} <Time at={t.expires} />
                            </>
                          ) : (
                            "never ends"
                          )}
                        </div>
                      </div>
                      <span className="num muted">
                        {t.last_used ? (
                          <>
                            used <Time at={t.last_used} relative />
                          </>
                        ) : (
                          "never used"
                        )}
                      </span>
                      {t.usable && <Revoke t={t} />}
                    </li>
                  ))}
                </ul>
              </Section>
            );
          }}
        </Answer>
      )}
    </Page>
  );
}
