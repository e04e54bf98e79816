// Parts that a weir may not have, or the reader not see: null then, and hidden; with
// `says` the reason is an error, for a page that is about nothing else.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { ask, isMissing, Problem, type Options } from "./client";

export function usePart<T>(key: unknown[], path: string, query: Options["query"] = {}, options: { enabled?: boolean; every?: number; keep?: boolean; says?: boolean } = {}) {
  return useQuery({
    queryKey: key,
    queryFn: async ({ signal }): Promise<T | null> => {
      try {
        return await ask<T>(path, { query, signal });
      } catch (e) {
        if ((isMissing(e) && !options.says) || (e instanceof Problem && e.status === 403)) return null;
        throw e;
      }
    },
    enabled: options.enabled ?? true,
    refetchInterval: options.every,
    placeholderData: options.keep ? keepPreviousData : undefined,
  });
}
