import { Button } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { useEffect, useMemo } from "react";
import { operationView } from "../../api/operations";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { DataTable } from "../../components/DataTable";
import { Empty, Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Loading } from "../../components/Page";
import { State } from "../../components/State";
import { Progress } from "../../components/Steps";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import type { OperationView } from "../../state/operation";
import { idOf, serviceParts } from "../../state/proto";
import { span } from "../../state/times";
import { operationFilter } from "../../state/filter";
import { OperationLink, useOperation } from "./Follow";

/**
 * The operations of a module, newest first. The API has no stream over the list: it is asked again on focus, and when a service's own
 * stream says that another operation works on it (`current`). Those that go on are followed live.
 */
export function OperationsTable(props: {
  module: string;
  target?: string;
  state?: string;
  current: string;
  most?: number;
}) {
  const t = useT();
  const { module, target = "", state = "", current, most } = props;
  const list = useInfiniteQuery({
    queryKey: ["operations", module, target, state],
    queryFn: ({ pageParam, signal }) =>
      api.operations.listOperations(
        {
          name: `operations/${module}`,
          filter: operationFilter({ target, state }),
          pageToken: pageParam,
          pageSize: 100,
        },
        { signal },
      ),
    initialPageParam: "",
    getNextPageParam: (page) => (page.nextPageToken === "" ? undefined : page.nextPageToken),
  });
  const { refetch } = list;
  useEffect(() => void refetch(), [current, refetch]);
  const rows = useMemo(() => list.data?.pages.flatMap((page) => page.operations.map(operationView)) ?? [], [list.data]);
  const columns = useMemo<ColumnDef<OperationView>[]>(
    () => [
      {
        id: "kind",
        header: t("operation.kind"),
        accessorKey: "kind",
        cell: ({ row }) => <OperationLink name={row.original.name} text={row.original.kind} />,
      },
      {
        id: "state",
        header: t("services.state"),
        accessorKey: "state",
        cell: ({ row }) => <Live operation={row.original} />,
      },
      {
        id: "target",
        header: t("operation.target"),
        accessorKey: "target",
        cell: ({ row }) => {
          const parts = serviceParts(row.original.target);
          return parts ? `${parts.project} / ${parts.service}` : row.original.target;
        },
      },
      { id: "who", header: t("operation.principal"), accessorFn: (one) => idOf(one.principal) },
      {
        id: "created",
        header: t("operation.created"),
        accessorFn: (one) => one.created?.getTime() ?? 0,
        cell: ({ row }) => <Time at={row.original.created} />,
      },
      {
        id: "took",
        header: t("operation.took"),
        accessorFn: (one) => (one.ended && one.started ? span(one.ended.getTime() - one.started.getTime()) : ""),
      },
      {
        id: "error",
        header: t("services.why"),
        enableSorting: false,
        cell: ({ row }) => (
          <span className="clip" title={row.original.error}>
            {row.original.error}
          </span>
        ),
      },
    ],
    [t],
  );
  if (list.error && !list.data) return <Failure problem={problemOf(list.error)} retry={() => void refetch()} />;
  if (!list.data) return <Loading />;
  return (
    <>
      <p className="table-note">
        <AsOf at={list.dataUpdatedAt} refresh={() => void refetch()} />
      </p>
      <DataTable
        label={t("nav.operations")}
        rows={most === undefined ? rows : rows.slice(0, most)}
        columns={columns}
        rowId={(one) => one.name}
        empty={<Empty title={t("operation.none")} />}
      />
      {list.hasNextPage && most === undefined && (
        <Button variant="default" loading={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
          {t("action.more")}
        </Button>
      )}
    </>
  );
}

function Live({ operation }: { operation: OperationView }) {
  return operation.done ? <State group="operation" value={operation.state} /> : <Followed operation={operation} />;
}

function Followed({ operation: asked }: { operation: OperationView }) {
  const t = useT();
  const { operation = asked } = useOperation(asked.name);
  return (
    <span className="live-state">
      <State group="operation" value={operation.state} />
      {!operation.done && <Progress percent={operation.percent} label={t("operation.progress")} />}
    </span>
  );
}
