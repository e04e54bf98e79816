// Who sits here, and what they may.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { ask, isMissing, onSignedOut, Problem, setCsrf } from "./client";
import type { Me, SessionState } from "./types";

const unknown: SessionState = { session: null, local: true, first: false, ways: { password: false, oidc: null } };

export function useSession() {
  const client = useQueryClient();
  useEffect(() => onSignedOut(() => void client.invalidateQueries({ queryKey: ["session"] })), [client]);
  return useQuery({
    queryKey: ["session"],
    queryFn: async ({ signal }) => {
      try {
        const state = await ask<SessionState>("/api/v1/session", { signal, quiet: true });
        setCsrf(state.session?.csrf ?? "");
        return state;
      } catch (e) {
        if (isMissing(e)) return unknown;
        throw e;
      }
    },
    staleTime: 60_000,
  });
}

export function useMe() {
  return useQuery({
    queryKey: ["me"],
    queryFn: async ({ signal }): Promise<Me> => {
      try {
        const me = await ask<Me>("/api/v1/me", { signal });
        return me.kind === "local" ? { ...me, name: "" } : me; // nobody
      } catch (e) {
        if (isMissing(e)) return { kind: "local", id: "local", name: "", roles: [], may: ["alerts", "requests", "detectors", "system"] };
        throw e;
      }
    },
    staleTime: 60_000,
    retry: (n, e) => !(e instanceof Problem && e.status === 401) && n < 2,
  });
}

/** useMay tells whether the one who sits here may; the API has the last word. */
export function useMay(what: string): boolean {
  return useMe().data?.may.includes(what) ?? false;
}
