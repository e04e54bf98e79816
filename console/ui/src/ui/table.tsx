// Tables that sort by the columns' heads.
import { createSortedRowModel, rowSortingFeature, sortFns, tableFeatures, useTable, type ColumnDef } from "@tanstack/react-table";
import { useMemo, type ReactNode } from "react";

const features = tableFeatures({ rowSortingFeature, sortedRowModel: createSortedRowModel(), sortFns });

export interface Column<T> {
  id: string;
  head: string;
  value: (row: T) => string | number | null;
  cell?: (row: T) => ReactNode;
  num?: boolean;
  wide?: boolean; // hidden on narrow pages
}

export function DataTable<T extends object>({ rows, columns, label, keyOf, sort }: { rows: T[]; columns: Column<T>[]; label: string; keyOf: (row: T) => string; sort?: { id: string; desc: boolean } }) {
  const defs = useMemo(
    () =>
      columns.map(
        (c): ColumnDef<typeof features, T> => ({
          id: c.id,
          accessorFn: (row: T) => c.value(row) ?? undefined,
          header: c.head,
          sortUndefined: "last",
          sortDescFirst: c.num ?? false,
          sortFn: c.num ? "basic" : "alphanumeric",
        }),
      ),
    [columns],
  );
  const table = useTable({ features, columns: defs, data: rows, getRowId: keyOf, initialState: { sorting: sort ? [sort] : [] } });
  const byId = new Map(columns.map((c) => [c.id, c]));
  const style = (c: Column<T> | undefined) => [c?.num ? "num" : "", c?.wide ? "wide-only" : ""].filter(Boolean).join(" ") || undefined;
  return (
    <div className="table-box" tabIndex={0} role="region" aria-label={`${label}, as a table`}>
      <table>
        <thead>
          {table.getHeaderGroups().map((g) => (
            <tr key={g.id}>
              {g.headers.map((h) => {
                const c = byId.get(h.column.id);
                const order = h.column.getIsSorted();
                return (
                  <th key={h.id} scope="col" className={style(c)} aria-sort={order === "asc" ? "ascending" : order === "desc" ? "descending" : "none"}>
                    <button type="button" className="link" onClick={h.column.getToggleSortingHandler()}>
                      {c?.head}
                      <span aria-hidden="true">{order === "asc" ? " ↑" : order === "desc" ? " ↓" : ""}</span>
                    </button>
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {table.getRowModel().rows.map((row) => (
            <tr key={row.id}>
              {columns.map((c) => (
                <td key={c.id} className={style(c)}>
                  {c.cell ? c.cell(row.original) : (c.value(row.original) ?? "–")}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
