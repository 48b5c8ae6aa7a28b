import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { Button } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { AgentAdminService, AgentState, type AgentKey, IntentState } from "../../api/gen/upm/hub/v1/ledger_service_pb";
import {
  type Cluster,
  ClusterService,
  ClusterState,
  type JoinCommand,
  type Node,
  type StorageClass,
} from "../../api/gen/upm/resource/v1/resource_pb";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { type May, usePermissions } from "../../auth/permissions";
import { ConfirmDialog } from "../../components/Confirm";
import { Mono } from "../../components/Copy";
import { DataTable } from "../../components/DataTable";
import { Empty, Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Card, Facts, Loading, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { State } from "../../components/State";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date, idOf } from "../../state/proto";
import { bytes, cpus } from "../../state/quantities";
import { span } from "../../state/times";
import { JoinSteps } from "./JoinCommand";
import { usePageParams } from "../../state/route";
import { useStorageClasses } from "../../auth/lists";

const { method } = ClusterService;
const agentMethod = AgentAdminService.method;

export function ClusterPage() {
  const t = useT();
  const param = usePageParams();
  const id = param("cluster");
  const name = `clusters/${id}`;
  const { data, error, refetch, dataUpdatedAt } = useQuery({
    queryKey: ["cluster", name],
    queryFn: ({ signal }) => api.clusters.getCluster({ name }, { signal }),
  });
  const may = usePermissions("", [
    method.approveCluster,
    method.cordonCluster,
    method.createJoinCommand,
    method.deleteCluster,
    agentMethod.getAgent,
    agentMethod.disconnectAgent,
    agentMethod.revokeAgent,
  ]);
  const crumbs = [{ to: "/clusters", text: t("nav.clusters") }];
  if (!data) {
    return (
      <Page title={id} crumbs={crumbs}>
        {error ? <Failure problem={problemOf(error)} retry={() => void refetch()} /> : <Loading />}
      </Page>
    );
  }
  const again = () => void refetch();
  return (
    <Page
      title={id}
      crumbs={crumbs}
      badge={<State group="cluster" value={ClusterState[data.state]} />}
      fresh={<AsOf at={dataUpdatedAt} refresh={again} />}
      actions={<Actions cluster={data} may={may} again={again} />}
    >
      {data.message !== "" && data.state !== ClusterState.HEALTHY && (
        <div className="notice" data-tone="warn">
          {data.message}
        </div>
      )}
      {data.cordoned && (
        <div className="notice" data-tone="idle">
          {t("clusters.cordonedLong")}
        </div>
      )}
      <div className="columns">
        <Card title={t("service.facts")}>
          <Facts
            facts={[
              [t("field.displayName"), data.displayName],
              ["Kubernetes", data.kubernetesVersion],
              [t("clusters.nodes"), `${data.capacity?.readyNodes ?? 0}/${data.capacity?.nodes ?? 0}`],
              [t("field.cpu"), cpus(Number(data.capacity?.allocatableCpuMillis ?? 0n))],
              [t("field.memory"), bytes(Number(data.capacity?.allocatableMemoryBytes ?? 0n))],
              [t("clusters.seen"), <Time key="s" at={date(data.lastSeenTime)} />],
              [t("service.created"), <Time key="c" at={date(data.createTime)} />],
              ["UID", <Mono key="u" text={data.uid} what="UID" />],
            ]}
          />
        </Card>
        <AgentCard id={id} may={may} />
        <div className="wide">
          <Keys id={id} />
        </div>
        <div className="wide">
          <Nodes parent={name} />
        </div>
        <div className="wide">
          <StorageClasses parent={name} />
        </div>
      </div>
    </Page>
  );
}

function Actions({ cluster, may, again }: { cluster: Cluster; may: May; again: () => void }) {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const { name } = cluster;
  const [join, setJoin] = useState<JoinCommand>();
  const [deleting, setDeleting] = useState(false);
  const because = (which: Parameters<May>[0]) => {
    const { allowed, permission } = may(which);
    return allowed === false ? t("forbidden.platform", { permission }) : undefined;
  };
  const cordon = useMutation({
    mutationFn: () =>
      cluster.cordoned ? api.clusters.uncordonCluster({ name }) : api.clusters.cordonCluster({ name }),
    onSuccess: again,
  });
  const approve = useMutation({ mutationFn: () => api.clusters.approveCluster({ name }), onSuccess: again });
  const command = useMutation({
    mutationFn: () => api.clusters.createJoinCommand({ name }),
    onSuccess: setJoin,
  });
  const error = cordon.error ?? approve.error ?? command.error;
  return (
    <>
      {cluster.state === ClusterState.AWAITING_APPROVAL && (
        <ReasonButton size="compact-md" reason={because(method.approveCluster)} onClick={() => approve.mutate()}>
          {t("clusters.approve")}
        </ReasonButton>
      )}
      <ReasonButton
        variant="default"
        size="compact-md"
        reason={because(method.cordonCluster)}
        loading={cordon.isPending}
        onClick={() => cordon.mutate()}
      >
        {cluster.cordoned ? t("clusters.uncordon") : t("clusters.cordon")}
      </ReasonButton>
      <ReasonButton
        variant="default"
        size="compact-md"
        reason={because(method.createJoinCommand)}
        loading={command.isPending}
        onClick={() => command.mutate()}
      >
        {t("clusters.command")}
      </ReasonButton>
      <ReasonButton
        variant="default"
        size="compact-md"
        reason={because(method.deleteCluster)}
        onClick={() => setDeleting(true)}
      >
        {t("clusters.forget")}
      </ReasonButton>
      {error && <Failure problem={problemOf(error)} />}
      {join && (
        <ConfirmDialog title={t("clusters.command")} close={() => setJoin(undefined)}>
          <JoinSteps join={join} />
        </ConfirmDialog>
      )}
      {deleting && (
        <ConfirmDialog
          title={t("clusters.forgetTitle", { name: idOf(name) })}
          text={t("clusters.forgetWhy")}
          typed={idOf(name)}
          confirm={t("clusters.forget")}
          danger
          problem={problemOf}
          run={() => api.clusters.deleteCluster({ name, etag: cluster.etag })}
          done={() => {
            void queries.invalidateQueries({ queryKey: ["clusters"] });
            void navigate({ to: "/clusters" });
          }}
          close={() => setDeleting(false)}
        />
      )}
    </>
  );
}

function AgentCard({ id, may }: { id: string; may: May }) {
  const t = useT();
  const name = `agents/${id}`;
  const { data, error, refetch } = useQuery({
    queryKey: ["agent", name],
    queryFn: ({ signal }) => api.agents.getAgent({ name }, { signal }),
  });
  const [asking, setAsking] = useState<"disconnect" | "revoke">();
  const because = (which: Parameters<May>[0]) => {
    const { allowed, permission } = may(which);
    return allowed === false ? t("forbidden.platform", { permission }) : undefined;
  };
  if (error) {
    return (
      <Card title={t("agent.title")}>
        <Failure problem={problemOf(error)} retry={() => void refetch()} />
      </Card>
    );
  }
  if (!data) {
    return (
      <Card title={t("agent.title")}>
        <Loading rows={4} />
      </Card>
    );
  }
  const behind = data.headRev - data.receivedRev;
  return (
    <Card title={t("agent.title")} side={<State group="agent" value={AgentState[data.state]} />}>
      <Facts
        facts={[
          [t("field.version"), data.build],
          [t("agent.since"), <Time key="s" at={date(data.connectTime)} />],
          [t("clusters.seen"), <Time key="l" at={date(data.lastSeenTime)} />],
          [t("agent.behind"), t("agent.revisions", { n: String(behind), head: String(data.headRev) })],
          [t("agent.queue"), data.applyQueue],
          [t("agent.oldest"), data.oldestUnappliedMs === 0n ? "" : span(Number(data.oldestUnappliedMs))],
          [t("agent.pending"), data.pendingKeys],
          [t("agent.rejected"), data.rejectedKeys],
          [t("agent.held"), data.heldKeys],
          [t("agent.certificate"), <Time key="e" at={date(data.certificateExpireTime)} />],
          [t("agent.serial"), <Mono key="n" text={data.certificateSerial} what={t("agent.serial")} />],
          [t("agent.says"), data.message],
        ]}
      />
      <div className="actions">
        <ReasonButton
          variant="default"
          size="compact-sm"
          reason={
            because(agentMethod.disconnectAgent) ??
            (data.state === AgentState.CONNECTED ? undefined : t("agent.notConnected"))
          }
          onClick={() => setAsking("disconnect")}
        >
          {t("agent.disconnect")}
        </ReasonButton>
        <ReasonButton
          variant="default"
          size="compact-sm"
          reason={because(agentMethod.revokeAgent)}
          onClick={() => setAsking("revoke")}
        >
          {t("agent.revoke")}
        </ReasonButton>
      </div>
      {asking && (
        <ConfirmDialog
          title={asking === "revoke" ? t("agent.revoke") : t("agent.disconnect")}
          text={asking === "revoke" ? t("agent.revokeWhy") : t("agent.disconnectWhy")}
          {...(asking === "revoke" && { typed: id })}
          confirm={asking === "revoke" ? t("agent.revoke") : t("agent.disconnect")}
          danger
          problem={problemOf}
          run={() => (asking === "revoke" ? api.agents.revokeAgent({ name }) : api.agents.disconnectAgent({ name }))}
          done={() => void refetch()}
          close={() => setAsking(undefined)}
        />
      )}
    </Card>
  );
}

/** A list that is asked for page by page. */
function usePages<P extends { nextPageToken: string }>(
  key: unknown[],
  ask: (pageToken: string, signal: AbortSignal) => Promise<P>,
) {
  return useInfiniteQuery({
    queryKey: key,
    queryFn: ({ pageParam, signal }) => ask(pageParam, signal),
    initialPageParam: "",
    getNextPageParam: (page) => (page.nextPageToken === "" ? undefined : page.nextPageToken),
  });
}

function Keys({ id }: { id: string }) {
  const t = useT();
  const pages = usePages(["keys", id], (pageToken, signal) =>
    api.agents.listAgentKeys({ name: `agents/${id}`, pageToken }, { signal }),
  );
  const columns = useMemo<ColumnDef<AgentKey>[]>(
    () => [
      { id: "kind", header: t("keys.kind"), accessorFn: (one) => one.key?.kind ?? "" },
      {
        id: "name",
        header: t("member.name"),
        accessorFn: (one) => [one.key?.namespace, one.key?.name].filter(Boolean).join("/"),
      },
      {
        id: "state",
        header: t("services.state"),
        cell: ({ row }) => <State group="intent" value={IntentState[row.original.state]} />,
      },
      { id: "owner", header: t("keys.owner"), accessorKey: "owner" },
      {
        id: "why",
        header: t("services.why"),
        accessorFn: (one) => one.result?.error?.message ?? (one.held ? t("agent.held") : ""),
      },
    ],
    [t],
  );
  return (
    <Card title={t("clusters.unsettled")}>
      {pages.error ? (
        <Failure problem={problemOf(pages.error)} retry={() => void pages.refetch()} />
      ) : !pages.data ? (
        <Loading rows={2} />
      ) : (
        <DataTable
          label={t("clusters.unsettled")}
          rows={pages.data.pages.flatMap((page) => page.keys)}
          columns={columns}
          rowId={(one) =>
            `${one.key?.group ?? ""}/${one.key?.kind ?? ""}/${one.key?.namespace ?? ""}/${one.key?.name ?? ""}`
          }
          empty={<Empty title={t("clusters.allSettled")} />}
        />
      )}
      {pages.hasNextPage && <More pages={pages} />}
    </Card>
  );
}

function More({ pages }: { pages: { isFetchingNextPage: boolean; fetchNextPage: () => Promise<unknown> } }) {
  const t = useT();
  return (
    <Button
      variant="default"
      size="compact-sm"
      loading={pages.isFetchingNextPage}
      onClick={() => void pages.fetchNextPage()}
    >
      {t("action.more")}
    </Button>
  );
}

function Nodes({ parent }: { parent: string }) {
  const t = useT();
  const pages = usePages(["nodes", parent], (pageToken, signal) =>
    api.nodes.listNodes({ parent, pageToken, pageSize: 200 }, { signal }),
  );
  const columns = useMemo<ColumnDef<Node>[]>(
    () => [
      { id: "name", header: t("member.name"), accessorFn: (one) => idOf(one.name) },
      {
        id: "ready",
        header: t("member.ready"),
        cell: ({ row }) => <State group="yesno" value={row.original.ready ? "YES" : "NO"} />,
      },
      {
        id: "schedulable",
        header: t("nodes.schedulable"),
        accessorFn: (one) => (one.schedulable ? t("word.yes") : t("word.no")),
      },
      { id: "cpu", header: t("field.cpu"), accessorFn: (one) => cpus(Number(one.allocatableCpuMillis)) },
      { id: "memory", header: t("field.memory"), accessorFn: (one) => bytes(Number(one.allocatableMemoryBytes)) },
      { id: "kubelet", header: "kubelet", accessorKey: "kubeletVersion" },
      { id: "address", header: t("member.address"), accessorKey: "address" },
    ],
    [t],
  );
  return (
    <Card title={t("clusters.nodes")}>
      {pages.error ? (
        <Failure problem={problemOf(pages.error)} retry={() => void pages.refetch()} />
      ) : !pages.data ? (
        <Loading rows={2} />
      ) : (
        <DataTable
          label={t("clusters.nodes")}
          rows={pages.data.pages.flatMap((page) => page.nodes)}
          columns={columns}
          rowId={(one) => one.name}
          empty={<Empty title={t("nodes.none")} />}
        />
      )}
      {pages.hasNextPage && <More pages={pages} />}
    </Card>
  );
}

function StorageClasses({ parent }: { parent: string }) {
  const t = useT();
  const { data, error, refetch } = useStorageClasses(parent);
  const columns = useMemo<ColumnDef<StorageClass>[]>(
    () => [
      {
        id: "name",
        header: t("member.name"),
        accessorFn: (one) => idOf(one.name) + (one.default ? ` (${t("storage.default")})` : ""),
      },
      { id: "provisioner", header: t("storage.provisioner"), accessorKey: "provisioner" },
      {
        id: "grow",
        header: t("storage.grow"),
        accessorFn: (one) => (one.allowVolumeExpansion ? t("word.yes") : t("word.no")),
      },
      { id: "reclaim", header: t("storage.reclaim"), accessorKey: "reclaimPolicy" },
      { id: "binding", header: t("storage.binding"), accessorKey: "volumeBindingMode" },
    ],
    [t],
  );
  return (
    <Card title={t("clusters.storage")}>
      {error ? (
        <Failure problem={problemOf(error)} retry={() => void refetch()} />
      ) : !data ? (
        <Loading rows={2} />
      ) : (
        <DataTable
          label={t("clusters.storage")}
          rows={data.storageClasses}
          columns={columns}
          rowId={(one) => one.name}
          empty={<Empty title={t("storage.none")} />}
        />
      )}
    </Card>
  );
}
