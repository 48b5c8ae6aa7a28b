import { Checkbox, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type SyntheticEvent, useEffect, useState } from "react";
import { explain } from "../../api/errors";
import { ClusterService, ClusterState } from "../../api/gen/upm/resource/v1/resource_pb";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { usePermissions } from "../../auth/permissions";
import { Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Card, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { State } from "../../components/State";
import { useT } from "../../i18n";
import { idOf } from "../../state/proto";
import { JoinSteps } from "./JoinCommand";

/** Name → command → approval. */
export function JoinPage() {
  const t = useT();
  const queries = useQueryClient();
  const [form, setForm] = useState({ clusterId: "", displayName: "", autoApprove: false });
  const may = usePermissions("", [ClusterService.method.createCluster, ClusterService.method.approveCluster]);
  const { allowed, permission } = may(ClusterService.method.createCluster);
  const create = useMutation({
    mutationFn: () =>
      api.clusters.createCluster({
        clusterId: form.clusterId,
        cluster: { displayName: form.displayName },
        autoApprove: form.autoApprove,
      }),
    onSuccess: () => void queries.invalidateQueries({ queryKey: ["clusters"] }),
  });
  const problem = create.error && explain(create.error);
  const made = create.data;
  return (
    <Page title={t("clusters.join")} crumbs={[{ to: "/clusters", text: t("nav.clusters") }]}>
      {!made && (
        <Card title={`1 · ${t("join.name")}`}>
          <form
            className="form"
            onSubmit={(event: SyntheticEvent) => {
              event.preventDefault();
              if (allowed) create.mutate();
            }}
          >
            <TextInput
              label={t("join.id")}
              description={t("create.idRule")}
              required
              value={form.clusterId}
              onChange={(event) => setForm({ ...form, clusterId: event.currentTarget.value })}
              error={problem?.fields.get("cluster_id")}
            />
            <TextInput
              label={t("field.displayName")}
              value={form.displayName}
              onChange={(event) => setForm({ ...form, displayName: event.currentTarget.value })}
              error={problem?.fields.get("cluster.display_name")}
            />
            <Checkbox
              label={t("join.auto")}
              description={t("join.autoWhy")}
              checked={form.autoApprove}
              onChange={(event) => setForm({ ...form, autoApprove: event.currentTarget.checked })}
            />
            {problem && problem.fields.size === 0 && <Failure problem={problemOf(create.error)} />}
            <ReasonButton
              type="submit"
              loading={create.isPending}
              reason={allowed === false ? t("forbidden.platform", { permission }) : undefined}
            >
              {t("join.make")}
            </ReasonButton>
          </form>
        </Card>
      )}
      {made?.joinCommand && <JoinSteps join={made.joinCommand} />}
      {made?.cluster && (
        <Arrival name={made.cluster.name} mayApprove={may(ClusterService.method.approveCluster).allowed !== false} />
      )}
    </Page>
  );
}

/** Whether the agent came. There is no stream over clusters: it is asked again on focus and on the button. */
function Arrival({ name, mayApprove }: { name: string; mayApprove: boolean }) {
  const t = useT();
  const { data, refetch, dataUpdatedAt } = useQuery({
    queryKey: ["cluster", name],
    queryFn: ({ signal }) => api.clusters.getCluster({ name }, { signal }),
  });
  const approve = useMutation({
    mutationFn: () => api.clusters.approveCluster({ name }),
    onSuccess: () => void refetch(),
  });
  useEffect(() => void refetch(), [refetch]);
  if (!data) return null;
  return (
    <Card title={t("join.arrival")} side={<AsOf at={dataUpdatedAt} refresh={() => void refetch()} />}>
      <p>
        <State group="cluster" value={ClusterState[data.state]} /> {data.message}
      </p>
      {data.state === ClusterState.AWAITING_APPROVAL && (
        <ReasonButton
          reason={mayApprove ? undefined : t("forbidden.platform", { permission: "resource.clusters.approve" })}
          loading={approve.isPending}
          onClick={() => approve.mutate()}
        >
          {t("clusters.approve")}
        </ReasonButton>
      )}
      {approve.error && <Failure problem={problemOf(approve.error)} />}
      <Link to="/clusters/$cluster" params={{ cluster: idOf(name) }}>
        {t("join.open")}
      </Link>
    </Card>
  );
}
