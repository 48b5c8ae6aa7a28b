import type { ColumnDef } from "@tanstack/react-table";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Software } from "../../api/gen/upm/resource/v1/resource_pb";
import { problemOf } from "../../api/problem";
import { DataTable } from "../../components/DataTable";
import { Empty, Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Loading, Page } from "../../components/Page";
import { State } from "../../components/State";
import { useT } from "../../i18n";
import { idOf } from "../../state/proto";
import { useCatalogue } from "../../auth/lists";

export function SoftwareListPage() {
  const t = useT();
  const { data, error, refetch, dataUpdatedAt } = useCatalogue();
  const columns = useMemo<ColumnDef<Software>[]>(
    () => [
      {
        id: "name",
        header: t("software.package"),
        accessorFn: (one) => idOf(one.name),
        cell: ({ row }) => (
          <Link to="/software/$software" params={{ software: idOf(row.original.name) }}>
            {idOf(row.original.name)}
          </Link>
        ),
      },
      { id: "type", header: t("services.engine"), accessorKey: "type" },
      { id: "edition", header: t("software.edition"), accessorKey: "edition" },
      { id: "version", header: t("field.version"), accessorKey: "version" },
      {
        id: "enabled",
        header: t("software.enabled"),
        accessorKey: "enabled",
        cell: ({ row }) => <State group="yesno" value={row.original.enabled ? "YES" : "NO"} />,
      },
      {
        id: "digest",
        header: t("software.digest"),
        enableSorting: false,
        cell: ({ row }) => <code>{row.original.digest.slice(0, 12)}</code>,
      },
    ],
    [t],
  );
  return (
    <Page title={t("nav.software")} fresh={<AsOf at={dataUpdatedAt} refresh={() => void refetch()} />}>
      {error ? (
        <Failure problem={problemOf(error)} retry={() => void refetch()} />
      ) : !data ? (
        <Loading />
      ) : (
        <DataTable
          label={t("nav.software")}
          rows={data.software}
          columns={columns}
          rowId={(one) => one.name}
          empty={<Empty title={t("software.none")} />}
        />
      )}
    </Page>
  );
}
