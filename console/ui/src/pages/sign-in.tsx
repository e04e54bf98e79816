// Signing in, and making the first administrator with the link that weir printed.
import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Button, Input, Label, Text, TextField } from "react-aria-components";
import { ask, setCsrf } from "../api/client";
import { useSession } from "../api/session";
import type { SessionState } from "../api/types";
import { navigate, usePath } from "../lib/router";

const errors: Record<string, string> = {
  denied: "The provider refused.",
  expired: "That took too long; try again.",
  no_role: "You are known, but have no role here. Ask who runs weir.",
  provider: "The provider does not answer as it should.",
  disabled: "This account is disabled.",
};

// The one-time token is taken out of the address at once, so that no history has it.
let once = "";
if (location.pathname === "/first" && location.hash.length > 1) {
  once = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}

/** target is where to go afterwards: a path of this site alone. */
function target(): string {
  const to = new URLSearchParams(location.search).get("to") ?? "/alerts";
  return /^\/(?![/\\])/.test(to) && !to.startsWith("/sign-in") && !to.startsWith("/first") ? to : "/alerts";
}

export default function SignIn() {
  const first = usePath() === "/first";
  const client = useQueryClient();
  const session = useSession().data;
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [token, setToken] = useState(once);
  const [problem, setProblem] = useState(errors[new URLSearchParams(location.search).get("error") ?? ""] ?? "");
  const [busy, setBusy] = useState(false);
  const min = session?.password?.min ?? 15;
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      const state = first
        ? await ask<SessionState>("/api/v1/session/first", { method: "POST", body: { token, user, password }, quiet: true })
        : await ask<SessionState>("/api/v1/session", { method: "POST", body: { user, password }, quiet: true });
      once = "";
      setCsrf(state.session?.csrf ?? "");
      client.clear();
      client.setQueryData(["session"], state);
      navigate(target(), { replace: true });
    } catch (e) {
      setProblem(e instanceof Error ? e.message : String(e));
    } finally {
      setBusy(false);
    }
  };
  const oidc = session?.ways.oidc;
  return (
    <main className="sign-in" id="main">
      <h1>{first ? "The first administrator" : "weir"}</h1>
      {first && <p className="muted">weir has no accounts yet. Whoever holds the link that it printed makes the first one.</p>}
      {problem && (
        <p className="bad" role="alert">
          {problem}
        </p>
      )}
      {!first && oidc && (
        <a className="button primary big" href={`${oidc.href}?to=${encodeURIComponent(target())}`}>
          {oidc.name}
        </a>
      )}
      {(first || session?.ways.password !== false) && (
        <form onSubmit={(e) => void submit(e)}>
          {first && !once && (
            <TextField className="field" value={token} onChange={setToken} isRequired>
              <Label>The word after # in the link</Label>
              <Input autoComplete="off" />
            </TextField>
          )}
          <TextField className="field" value={user} onChange={setUser} isRequired autoFocus>
            <Label>User</Label>
            <Input autoComplete="username" autoCapitalize="none" spellCheck="false" />
          </TextField>
          <TextField className="field" value={password} onChange={setPassword} isRequired type="password">
            <Label>Password</Label>
            <Input autoComplete={first ? "new-password" : "current-password"} />
            {first && (
              <Text slot="description" className="muted">
                At least {min} characters; a few words in a row do well.
              </Text>
            )}
          </TextField>
          <Button className="button primary big" type="submit" isDisabled={busy || !user || !password || (first && !token)}>
            {first ? "Make the account" : "Sign in"}
          </Button>
        </form>
      )}
    </main>
  );
}
