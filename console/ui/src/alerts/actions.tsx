// The actions of triage as buttons and keys use them.
import { useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { useMay, useMe } from "../api/session";
import type { AnyTriage, TriageChange } from "../api/types";
import { plural } from "../lib/format";
import { toast } from "../lib/toast";
import { statusText, verdictText } from "../ui/bits";
import { showDialog } from "../ui/dialogs";
import { AssignDialog, CloseDialog, CommentDialog, ConflictDialog, TagDialog } from "./dialogs";
import { suppressFrom } from "./suppress";
import { changeFiltered, changeMany, changeOne, type Target } from "./triage";

export interface Filtered {
  filter: Record<string, string>;
  count: number;
}

export type On = Target[] | Filtered;

const many = (on: On) => (Array.isArray(on) ? on.length : on.count);

/** doneText says what a change did, in the past. */
function doneText(c: TriageChange): string {
  const parts: string[] = [];
  if (c.status === "closed") parts.push(`closed as ${verdictText(c.verdict ?? "")}`);
  else if (c.status) parts.push(c.status === "new" ? "reopened" : statusText[c.status]);
  if (c.assignee !== undefined) parts.push(c.assignee ? `assigned to ${c.assignee}` : "unassigned");
  if (c.add_tags?.length || c.remove_tags?.length) parts.push("tagged");
  if (c.comment && parts.length === 0) parts.push("commented");
  return parts.join(", ");
}

export function useActions() {
  const client = useQueryClient();
  const me = useMe().data?.name ?? "";
  const may = useMay("triage");
  return useMemo(() => {
    const conflict = (target: Target, change: TriageChange, stored: AnyTriage | null) =>
      showDialog("Somebody was faster", (close) => (
        <ConflictDialog
          close={() => {
            close();
            void client.invalidateQueries({ queryKey: ["alert", target.id] });
          }}
          was={target.triage}
          stored={stored}
          change={change}
          apply={() => void apply([stored ? { id: target.id, triage: stored } : target], change, stored === null)}
        />
      ));
    const ctx = { client, onConflict: conflict, onProposal: suppressFrom };
    const apply = async (on: On, change: TriageChange, force = false) => {
      if (!may) {
        toast("Reading only: changes need the role of an analyst. Sign in as one.", { tone: "bad" });
        return;
      }
      const what = doneText(change);
      const one = Array.isArray(on) && on.length === 1 ? on[0] : undefined;
      if (one) await changeOne(ctx, one, change, what.charAt(0).toUpperCase() + what.slice(1) + ".", { force });
      else if (Array.isArray(on)) await changeMany(ctx, on, change, what);
      else await changeFiltered(ctx, on.filter, on.count, change, what);
    };
    const empty = (on: On) => {
      if (many(on) > 0) return false;
      toast("No alert is selected.");
      return true;
    };
    const title = (what: string, on: On) => (many(on) > 1 ? `${what} ${plural(many(on), "alert")}` : `${what} alert`);
    return {
      may,
      me,
      assignMe: (on: On) => void (empty(on) || apply(on, { assignee: me })),
      progress: (on: On) => void (empty(on) || apply(on, { status: "in_progress", ...(me ? { assignee: me } : {}) })),
      reopen: (on: On) => void (empty(on) || apply(on, { status: "new" })),
      assign: (on: On) => void (empty(on) || showDialog(title("Assign", on), (close) => <AssignDialog close={close} me={me} submit={(c) => void apply(on, c)} />)),
      close: (on: On) => void (empty(on) || showDialog(title("Close", on), (close) => <CloseDialog close={close} many={many(on)} submit={(c) => void apply(on, c)} />)),
      comment: (on: On) => void (empty(on) || showDialog("Comment", (close) => <CommentDialog close={close} submit={(c) => void apply(on, c)} />)),
      tag: (on: On) =>
        void (
          empty(on) ||
          showDialog(title("Tag", on), (close) => (
            <TagDialog close={close} tags={Array.isArray(on) ? [...new Set(on.flatMap((t) => t.triage.tags))].toSorted() : []} submit={(c) => void apply(on, c)} />
          ))
        ),
    };
  }, [client, me, may]);
}

export type Actions = ReturnType<typeof useActions>;
