// Accounts of people, and where they are signed in.
import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Button, Checkbox, CheckboxGroup, Input, Label, Text, TextField } from "react-aria-components";
import { ask } from "../api/client";
import { usePart } from "../api/part";
import { useMay, useSession } from "../api/session";
import { agentText } from "../lib/names";
import { toast, toastProblem } from "../lib/toast";
import { Section, Time } from "../ui/bits";
import { showDialog } from "../ui/dialogs";
import { Answer, Page } from "../ui/page";

interface User {
  name: string;
  display: string;
  kind: "local" | "oidc";
  roles: string[];
  disabled: boolean;
  created: string;
  creator: string;
  seen: string | null;
  sessions: number;
}

interface Session {
  id: string;
  user: string;
  kind: string;
  created: string;
  seen: string;
  ends: string;
  address: string;
  agent: string;
  current: boolean;
}

const roles: [string, string][] = [
  ["viewer", "reads alerts"],
  ["analyst", "reads requests too, triages, suppresses, opens names with a reason"],
  ["engineer", "as analyst; tries and applies configurations"],
  ["admin", "everything"],
  ["auditor", "reads the audit"],
];

function UserForm({ close, user }: { close: () => void; user: User | null }) {
  const client = useQueryClient();
  const min = useSession().data?.password?.min ?? 15;
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState<string[]>(user?.roles ?? ["analyst"]);
  const [password, setPassword] = useState("");
  const [disabled, setDisabled] = useState(user?.disabled ?? false);
  const [problem, setProblem] = useState("");
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    try {
      if (user) {
        await ask(`/api/v1/users/${encodeURIComponent(user.name)}`, { method: "PATCH", body: { ...(user.kind === "local" ? { roles: chosen } : {}), disabled, ...(password ? { password } : {}) } });
      } else await ask("/api/v1/users", { method: "POST", body: { name: name.trim(), roles: chosen, password } });
      close();
      toast(user ? `${user.name} was changed.` : `${name} may sign in now.`);
      void client.invalidateQueries({ queryKey: ["users"] });
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  return (
    <form onSubmit={(e) => void submit(e)}>
      {!user && (
        <TextField className="field" value={name} onChange={setName} isRequired autoFocus>
          <Label>Name</Label>
          <Input autoComplete="off" autoCapitalize="none" spellCheck="false" />
        </TextField>
      )}
      {user?.kind !== "oidc" && (
        <>
          <CheckboxGroup className="radios" value={chosen} onChange={setChosen}>
            <Label>Roles</Label>
            {roles.map(([id, text]) => (
              <Checkbox key={id} value={id} className="check">
                <span className="box" /> <strong>{id}</strong> <span className="muted">{text}</span>
              </Checkbox>
            ))}
          </CheckboxGroup>
          <TextField className="field" value={password} onChange={setPassword} type="password" isRequired={!user}>
            <Label>{user ? "New password (empty: as it is)" : "Password"}</Label>
            <Input autoComplete="new-password" />
            <Text slot="description" className="muted">
              At least {min} characters.
            </Text>
          </TextField>
        </>
      )}
      {user && (
        <Checkbox className="check" isSelected={disabled} onChange={setDisabled}>
          <span className="box" /> Disabled: may not sign in; ends all sessions
        </Checkbox>
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
        <Button className="button primary" type="submit" isDisabled={chosen.length === 0 || (!user && (!name || password.length < min))}>
          {user ? "Save" : "Make the account"}
        </Button>
      </footer>
    </form>
  );
}

function PasswordForm({ close }: { close: () => void }) {
  const min = useSession().data?.password?.min ?? 15;
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const [problem, setProblem] = useState("");
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    try {
      await ask("/api/v1/session/password", { method: "POST", body: { old, new: next }, quiet: true });
      close();
      toast("The password was changed; other sessions have ended.");
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    }
  };
  return (
    <form onSubmit={(e) => void submit(e)}>
      <TextField className="field" value={old} onChange={setOld} type="password" autoFocus>
        <Label>Password now</Label>
        <Input autoComplete="current-password" />
      </TextField>
      <TextField className="field" value={next} onChange={setNext} type="password">
        <Label>New password, at least {min} characters</Label>
        <Input autoComplete="new-password" />
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
        <Button className="button primary" type="submit" isDisabled={!old || next.length < min}>
          Change
        </Button>
      </footer>
    </form>
  );
}

export default function UsersPage() {
  const client = useQueryClient();
  const admin = useMay("users");
  const session = useSession().data?.session;
  const users = usePart<{ data: User[] }>(["users"], "/api/v1/users");
  const sessions = usePart<{ data: Session[] }>(["sessions"], "/api/v1/sessions");
  const end = async (s: Session) => {
    try {
      await ask(`/api/v1/sessions/${encodeURIComponent(s.id)}`, { method: "DELETE" });
      toast("The session has ended.");
      void client.invalidateQueries({ queryKey: ["sessions"] });
      if (s.current) void client.invalidateQueries({ queryKey: ["session"] });
    } catch (e) {
      toastProblem("The session goes on", e);
    }
  };
  return (
    <Page
      title="Users"
      aside={
        <div className="chips">
          {session?.kind === "local" && (
            <Button className="button" onPress={() => showDialog("Change your password", (close) => <PasswordForm close={close} />)}>
              Your password …
            </Button>
          )}
          {admin && (
            <Button className="button primary" onPress={() => showDialog("New user", (close) => <UserForm close={close} user={null} />)}>
              New user …
            </Button>
          )}
        </div>
      }
    >
      {users.data && (
        <Section title="Who may sign in">
          <ul className="groups">
            {users.data.data.map((u) => (
              <li key={u.name} className="suppression">
                <div>
                  <strong>{u.name}</strong> {u.display && u.display !== u.name && <span className="muted">{u.display}</span>} {u.disabled && <span className="flag">disabled</span>}
                  {u.kind === "oidc" && <span className="flag">by provider</span>}
                  <div className="second">
                    {u.roles.join(", ")}; seen <Time at={u.seen} relative />
                  </div>
                </div>
                <span className="num muted">{u.sessions === 1 ? "1 session" : `${u.sessions} sessions`}</span>
                {admin && (
                  <Button className="button small" aria-label={`Change ${u.name}`} onPress={() => showDialog(u.name, (close) => <UserForm close={close} user={u} />)}>
                    Change …
                  </Button>
                )}
              </li>
            ))}
          </ul>
        </Section>
      )}
      <Answer of={sessions} what="The sessions">
        {(d) => (
          <Section title="Where people are signed in">
            {d.data.length === 0 && <p className="muted">Nobody is.</p>}
            <ul className="groups">
              {d.data.map((s) => (
                <li key={s.id} className="suppression">
                  <div>
                    <strong>{s.user}</strong> <span className="mono">{s.address}</span> {s.current && <span className="flag">this one</span>}
                    <div className="second break">
                      <span title={s.agent}>{agentText(s.agent)}</span>; seen <Time at={s.seen} relative />, since <Time at={s.created} />
                    </div>
                  </div>
                  <span />
                  <Button className="button small" aria-label={`End the session of ${s.user}`} onPress={() => void end(s)}>
                    End
                  </Button>
                </li>
              ))}
            </ul>
          </Section>
        )}
      </Answer>
    </Page>
  );
}
