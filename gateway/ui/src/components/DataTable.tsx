import {
  type ColumnDef,
  flexRender,
  getCoreRowModel,
  getSortedRowModel,
  type SortingState,
  useReactTable,
} from "@tanstack/react-table";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useLayoutEffect, useRef, useState } from "react";

interface Props<T> {
  label: string;
  rows: T[];
  columns: ColumnDef<T>[];
  /** Identity of a row. */
  rowId: (row: T) => string;
  /** Rows that changed a moment ago: they are marked. */
  changed?: ReadonlyMap<string, number>;
  /** Whether a row may be old. */
  old?: (row: T) => boolean;
  sort?: SortingState;
  /** Shown instead of rows when there are none. */
  empty: ReactNode;
}

/** Longer tables draw only the rows that are seen. */
const WHOLE = 120;
const ROW = 37;

/** A dense table. The first cell of a row holds its link, which covers the row; `j` and `k` go from link to link. */
export function DataTable<T>({ label, rows, columns, rowId, changed, old, sort = [], empty }: Props<T>) {
  const [sorting, setSorting] = useState<SortingState>(sort);
  const body = useRef<HTMLTableSectionElement>(null);
  const [margin, setMargin] = useState(0);
  const table = useReactTable({
    data: rows,
    columns,
    state: { sorting },
    onSortingChange: setSorting,
    enableSortingRemoval: false,
    getRowId: rowId,
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel(),
  });
  const sorted = table.getRowModel().rows;
  const virtual = sorted.length > WHOLE;
  useLayoutEffect(() => {
    if (body.current) setMargin(body.current.getBoundingClientRect().top + window.scrollY);
  }, [virtual]);
  const virtualizer = useWindowVirtualizer({
    count: virtual ? sorted.length : 0,
    estimateSize: () => ROW,
    overscan: 4,
    scrollMargin: margin,
  });
  const seen = virtual ? virtualizer.getVirtualItems().flatMap((item) => sorted[item.index] ?? []) : sorted;
  const items = virtualizer.getVirtualItems();
  const above = virtual ? (items[0]?.start ?? margin) - margin : 0;
  const below = virtual ? virtualizer.getTotalSize() - ((items.at(-1)?.end ?? margin) - margin) : 0;
  if (rows.length === 0) return <>{empty}</>;
  return (
    <div className="table-frame">
      <table
        className="data"
        aria-label={label}
        aria-rowcount={sorted.length + 1}
        // Widths that follow from the drawn rows would jump while one scrolls, and are slow.
        data-virtual={virtual || undefined}
      >
        {virtual && (
          <colgroup>
            {table.getVisibleLeafColumns().map((column) => (
              <col key={column.id} style={{ width: `${(100 * column.getSize()) / table.getTotalSize()}%` }} />
            ))}
          </colgroup>
        )}
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id}>
              {group.headers.map((header) => {
                const order = header.column.getIsSorted();
                const text = flexRender(header.column.columnDef.header, header.getContext());
                return (
                  <th
                    key={header.id}
                    scope="col"
                    aria-sort={order === "asc" ? "ascending" : order === "desc" ? "descending" : undefined}
                  >
                    {header.column.getCanSort() ? (
                      <button type="button" onClick={header.column.getToggleSortingHandler()}>
                        {text}
                        <span aria-hidden="true">{order === "asc" ? " ↑" : order === "desc" ? " ↓" : ""}</span>
                      </button>
                    ) : (
                      text
                    )}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody ref={body}>
          {above > 0 && (
            <tr aria-hidden="true" className="spacer">
              <td colSpan={columns.length} style={{ height: above }} />
            </tr>
          )}
          {seen.map((row) => (
            <tr
              key={row.id}
              // A new key of the mark begins its fading anew.
              data-changed={isRecent(changed?.get(row.id)) || undefined}
              data-old={old?.(row.original) || undefined}
              aria-rowindex={virtual ? row.index + 2 : undefined}
            >
              {row.getVisibleCells().map((cell) => (
                <td key={cell.id}>{flexRender(cell.column.columnDef.cell, cell.getContext())}</td>
              ))}
            </tr>
          ))}
          {below > 0 && (
            <tr aria-hidden="true" className="spacer">
              <td colSpan={columns.length} style={{ height: below }} />
            </tr>
          )}
        </tbody>
      </table>
    </div>
  );
}

function isRecent(at: number | undefined): boolean {
  return at !== undefined && Date.now() - at < 2_000;
}
