import { NumberInput, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { explain } from "../../api/errors";
import { RoleService } from "../../api/gen/upm/auth/v1/auth_pb";
import { type Project, ProjectService } from "../../api/gen/upm/resource/v1/resource_pb";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { usePermissions } from "../../auth/permissions";
import { ConfirmDialog } from "../../components/Confirm";
import { Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Card, Facts, Loading, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date, idOf } from "../../state/proto";
import { Bindings } from "../access/Bindings";
import { useServices } from "../services/engines";
import { usePageParams } from "../../state/route";

const { method } = ProjectService;

export function ProjectPage() {
  const t = useT();
  const param = usePageParams();
  const id = param("id");
  const name = `projects/${id}`;
  const { data, error, refetch, dataUpdatedAt } = useQuery({
    queryKey: ["projects", name],
    queryFn: ({ signal }) => api.projects.getProject({ name }, { signal }),
  });
  const crumbs = [{ to: "/projects", text: t("nav.projects") }];
  if (!data) {
    return (
      <Page title={id} crumbs={crumbs}>
        {error ? <Failure problem={problemOf(error)} retry={() => void refetch()} /> : <Loading />}
      </Page>
    );
  }
  return (
    <Page title={id} crumbs={crumbs} fresh={<AsOf at={dataUpdatedAt} refresh={() => void refetch()} />}>
      <Shown key={data.etag} project={data} />
      <Bindings project={name} />
    </Page>
  );
}

function Meter({ label, used, limit }: { label: string; used: number; limit: number }) {
  const t = useT();
  if (limit === 0) return <>{t("quota.unlimited", { used })}</>;
  return (
    <span className="meter-line">
      <meter aria-label={label} min={0} max={limit} high={limit * 0.9} value={used} /> {t("quota.of", { used, limit })}
    </span>
  );
}

function Shown({ project }: { project: Project }) {
  const t = useT();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const { items } = useServices();
  const id = idOf(project.name);
  const own = [...items.values()].filter((one) => one.project === id);
  const units = own.reduce((sum, one) => sum + one.size, 0);
  const may = usePermissions(project.name, [
    method.updateProject,
    method.deleteProject,
    RoleService.method.listRoleBindings,
  ]);
  const because = (which: (typeof method)[keyof typeof method]) => {
    const { allowed, permission } = may(which);
    return allowed === false ? t("forbidden.permission", { permission, project: id }) : undefined;
  };
  const [form, setForm] = useState({
    displayName: project.displayName,
    services: project.quota?.services ?? 0,
    units: project.quota?.units ?? 0,
  });
  const quotaChanged = form.services !== (project.quota?.services ?? 0) || form.units !== (project.quota?.units ?? 0);
  const [deleting, setDeleting] = useState(false);
  const again = () => void queries.invalidateQueries({ queryKey: ["projects"] });
  const save = useMutation({
    mutationFn: () =>
      api.projects.updateProject({
        project: {
          name: project.name,
          etag: project.etag,
          displayName: form.displayName,
          quota: { services: form.services, units: form.units },
        },
        // A quota that is not changed needs no permission of its own.
        updateMask: { paths: quotaChanged ? ["display_name", "quota"] : ["display_name"] },
      }),
    onSuccess: again,
  });
  const problem = save.error && explain(save.error);
  const number = (value: string | number) => (typeof value === "number" ? value : 0);
  return (
    <div className="columns">
      <Card title={t("quota.title")}>
        <Facts
          facts={[
            [
              t("nav.services"),
              <Meter
                key="s"
                label={t("nav.services")}
                used={project.serviceCount}
                limit={project.quota?.services ?? 0}
              />,
            ],
            [
              t("quota.units"),
              <Meter key="u" label={t("quota.units")} used={units} limit={project.quota?.units ?? 0} />,
            ],
            [t("service.created"), <Time key="c" at={date(project.createTime)} />],
          ]}
        />
        <Link to="/services" search={{ project: id }}>
          {t("projects.services")}
        </Link>
      </Card>
      <Card title={t("service.settings")}>
        <div className="form">
          <TextInput
            label={t("field.displayName")}
            value={form.displayName}
            onChange={(event) => setForm({ ...form, displayName: event.currentTarget.value })}
            error={problem?.fields.get("project.display_name")}
          />
          <NumberInput
            label={t("quota.services")}
            description={t("quota.zero")}
            min={0}
            value={form.services}
            onChange={(value) => setForm({ ...form, services: number(value) })}
            error={problem?.fields.get("project.quota.services")}
          />
          <NumberInput
            label={t("quota.unitsLimit")}
            description={t("quota.zero")}
            min={0}
            value={form.units}
            onChange={(value) => setForm({ ...form, units: number(value) })}
            error={problem?.fields.get("project.quota.units")}
          />
          {save.error && problem?.fields.size === 0 && <Failure problem={problemOf(save.error)} />}
          <div className="actions">
            <ReasonButton reason={because(method.updateProject)} loading={save.isPending} onClick={() => save.mutate()}>
              {t("action.save")}
            </ReasonButton>
            <ReasonButton
              color="red"
              variant="outline"
              reason={
                because(method.deleteProject) ??
                (project.serviceCount > 0 ? t("projects.notEmpty", { n: project.serviceCount }) : undefined)
              }
              onClick={() => setDeleting(true)}
            >
              {t("projects.delete")}
            </ReasonButton>
          </div>
        </div>
      </Card>
      {deleting && (
        <ConfirmDialog
          title={t("projects.delete")}
          typed={id}
          confirm={t("projects.delete")}
          danger
          problem={problemOf}
          run={() => api.projects.deleteProject({ name: project.name, etag: project.etag })}
          done={() => {
            again();
            void navigate({ to: "/projects" });
          }}
          close={() => setDeleting(false)}
        />
      )}
    </div>
  );
}
