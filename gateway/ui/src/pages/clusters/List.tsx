import type { ColumnDef } from "@tanstack/react-table";
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { type Cluster, ClusterService, ClusterState } from "../../api/gen/upm/resource/v1/resource_pb";
import { problemOf } from "../../api/problem";
import { usePermissions } from "../../auth/permissions";
import { DataTable } from "../../components/DataTable";
import { Empty, Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Loading, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { State } from "../../components/State";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date, idOf } from "../../state/proto";
import { bytes, cpus } from "../../state/quantities";
import { useClusters } from "../../auth/lists";

export function ClustersPage() {
  const t = useT();
  const navigate = useNavigate();
  const { data, error, refetch, dataUpdatedAt } = useClusters();
  const may = usePermissions("", [ClusterService.method.createCluster]);
  const { allowed, permission } = may(ClusterService.method.createCluster);
  const columns = useMemo<ColumnDef<Cluster>[]>(
    () => [
      {
        id: "name",
        header: t("clusters.name"),
        accessorFn: (one) => idOf(one.name),
        cell: ({ row }) => (
          <Link to="/clusters/$cluster" params={{ cluster: idOf(row.original.name) }}>
            {idOf(row.original.name)}
          </Link>
        ),
      },
      {
        id: "state",
        header: t("services.state"),
        accessorFn: (one) => ClusterState[one.state],
        cell: ({ row }) => <State group="cluster" value={ClusterState[row.original.state]} />,
      },
      {
        id: "message",
        header: t("services.why"),
        enableSorting: false,
        cell: ({ row }) => (
          <span className="clip">{row.original.cordoned ? t("clusters.cordoned") : row.original.message}</span>
        ),
      },
      {
        id: "nodes",
        header: t("clusters.nodes"),
        accessorFn: (one) => `${one.capacity?.readyNodes ?? 0}/${one.capacity?.nodes ?? 0}`,
      },
      {
        id: "cpu",
        header: t("field.cpu"),
        accessorFn: (one) => cpus(Number(one.capacity?.allocatableCpuMillis ?? 0n)),
      },
      {
        id: "memory",
        header: t("field.memory"),
        accessorFn: (one) => bytes(Number(one.capacity?.allocatableMemoryBytes ?? 0n)),
      },
      { id: "kubernetes", header: "Kubernetes", accessorKey: "kubernetesVersion" },
      {
        id: "seen",
        header: t("clusters.seen"),
        accessorFn: (one) => date(one.lastSeenTime)?.getTime() ?? 0,
        cell: ({ row }) => <Time at={date(row.original.lastSeenTime)} />,
      },
    ],
    [t],
  );
  return (
    <Page
      title={t("nav.clusters")}
      fresh={<AsOf at={dataUpdatedAt} refresh={() => void refetch()} />}
      actions={
        <ReasonButton
          size="compact-md"
          reason={allowed === false ? t("forbidden.platform", { permission }) : undefined}
          onClick={() => void navigate({ to: "/clusters/new" })}
        >
          {t("clusters.join")}
        </ReasonButton>
      }
    >
      {error ? (
        <Failure problem={problemOf(error)} retry={() => void refetch()} />
      ) : !data ? (
        <Loading />
      ) : (
        <DataTable
          label={t("nav.clusters")}
          rows={data.clusters}
          columns={columns}
          rowId={(one) => one.name}
          empty={
            <Empty title={t("clusters.none")}>
              <Link to="/clusters/new">{t("clusters.join")}</Link>
            </Empty>
          }
        />
      )}
    </Page>
  );
}
