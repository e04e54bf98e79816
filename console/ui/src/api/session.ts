// Who sits here, and what they may.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { ask, onSignedOut, Problem, setCsrf } from "./client";
import type { Me, SessionState } from "./types";

export function useSession() {
  const client = useQueryClient();
  useEffect(() => onSignedOut(() => void client.invalidateQueries({ queryKey: ["session"] })), [client]);
  return useQuery({
    queryKey: ["session"],
    queryFn: async ({ signal }) => {
      const state = await ask<SessionState>("/api/v1/session", { signal, quiet: true });
      setCsrf(state.session?.csrf ?? "");
      return state;
    },
    staleTime: 60_000,
  });
}

export function useMe() {
  return useQuery({
    queryKey: ["me"],
    queryFn: async ({ signal }): Promise<Me> => {
      const me = await ask<Me>("/api/v1/me", { signal });
      return me.kind === "local" ? { ...me, name: "" } : me; // nobody
    },
    staleTime: 60_000,
    retry: (n, e) => !(e instanceof Problem && e.status === 401) && n < 2,
  });
}

/** useMay tells whether the one who sits here may; the API has the last word. */
export function useMay(what: string): boolean {
  return useMe().data?.may.includes(what) ?? false;
}
