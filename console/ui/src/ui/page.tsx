// The frame of the smaller pages.
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Failure, Loading } from "./bits";

export function Page({ title, lead, aside, children }: { title: ReactNode; lead?: ReactNode; aside?: ReactNode; children: ReactNode }) {
  return (
    <div className="page">
      <header className="page-head">
        <div>
          <h1>{title}</h1>
          {lead && <p className="muted">{lead}</p>}
        </div>
        {aside}
      </header>
      {children}
    </div>
  );
}

/** Answer shows what was read, or why there is nothing. null is a part that this weir has not. */
export function Answer<T>({ of, what, children }: { of: UseQueryResult<T | null>; what: string; children: (data: T) => ReactNode }) {
  if (of.error && of.data === undefined) return <Failure error={of.error} what={`${what} cannot be shown`} retry={() => void of.refetch()} />;
  if (of.data === undefined) return <Loading />;
  if (of.data === null) return <p className="empty muted">{what}: this weir does not have it, or you may not see it.</p>;
  return (
    <>
      {of.error && <Failure error={of.error} what="This may be out of date" retry={() => void of.refetch()} />}
      {children(of.data)}
    </>
  );
}
