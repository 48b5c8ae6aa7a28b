import { Button, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { Link, useNavigate } from "@tanstack/react-router";
import { type SyntheticEvent, useMemo, useState } from "react";
import { uuid } from "../../api/base";
import { explain } from "../../api/errors";
import { type Project, ProjectService } from "../../api/gen/upm/resource/v1/resource_pb";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { usePermissions } from "../../auth/permissions";
import { DataTable } from "../../components/DataTable";
import { Dialog } from "../../components/Dialog";
import { Empty, Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Loading, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date, idOf } from "../../state/proto";
import { useProjects } from "../../auth/lists";

/** Use of a quota in words; 0 is none. */
export function quotaText(used: number, limit: number): string {
  return limit === 0 ? String(used) : `${used} / ${limit}`;
}

export function ProjectsPage() {
  const t = useT();
  const [making, setMaking] = useState(false);
  const { data, error, refetch, dataUpdatedAt } = useProjects();
  const may = usePermissions("", [ProjectService.method.createProject]);
  const { allowed, permission } = may(ProjectService.method.createProject);
  const columns = useMemo<ColumnDef<Project>[]>(
    () => [
      {
        id: "name",
        header: t("services.project"),
        accessorFn: (one) => idOf(one.name),
        cell: ({ row }) => (
          <Link to="/projects/$id" params={{ id: idOf(row.original.name) }}>
            {idOf(row.original.name)}
          </Link>
        ),
      },
      { id: "display", header: t("field.displayName"), accessorKey: "displayName" },
      {
        id: "services",
        header: t("nav.services"),
        accessorFn: (one) => quotaText(one.serviceCount, one.quota?.services ?? 0),
      },
      {
        id: "created",
        header: t("service.created"),
        accessorFn: (one) => date(one.createTime)?.getTime() ?? 0,
        cell: ({ row }) => <Time at={date(row.original.createTime)} />,
      },
    ],
    [t],
  );
  return (
    <Page
      title={t("nav.projects")}
      fresh={<AsOf at={dataUpdatedAt} refresh={() => void refetch()} />}
      actions={
        <ReasonButton
          size="compact-md"
          reason={allowed === false ? t("forbidden.platform", { permission }) : undefined}
          onClick={() => setMaking(true)}
        >
          {t("projects.new")}
        </ReasonButton>
      }
    >
      {error ? (
        <Failure problem={problemOf(error)} retry={() => void refetch()} />
      ) : !data ? (
        <Loading />
      ) : (
        <DataTable
          label={t("nav.projects")}
          rows={data.projects}
          columns={columns}
          rowId={(one) => one.name}
          empty={<Empty title={t("projects.none")} />}
        />
      )}
      {making && <NewProject close={() => setMaking(false)} />}
    </Page>
  );
}

function NewProject({ close }: { close: () => void }) {
  const t = useT();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [form, setForm] = useState({ projectId: "", displayName: "" });
  const requestId = useMemo(uuid, []);
  const create = useMutation({
    mutationFn: () =>
      api.projects.createProject({ projectId: form.projectId, project: { displayName: form.displayName }, requestId }),
    onSuccess: (project) => {
      void queries.invalidateQueries({ queryKey: ["projects"] });
      void navigate({ to: "/projects/$id", params: { id: idOf(project.name) } });
    },
  });
  const problem = create.error && explain(create.error);
  return (
    <Dialog title={t("projects.new")} close={close}>
      <form
        className="form"
        onSubmit={(event: SyntheticEvent) => {
          event.preventDefault();
          create.mutate();
        }}
      >
        <TextInput
          label={t("create.id")}
          description={t("create.idRule")}
          autoFocus
          required
          value={form.projectId}
          onChange={(event) => setForm({ ...form, projectId: event.currentTarget.value })}
          error={problem?.fields.get("project_id")}
        />
        <TextInput
          label={t("field.displayName")}
          value={form.displayName}
          onChange={(event) => setForm({ ...form, displayName: event.currentTarget.value })}
          error={problem?.fields.get("project.display_name")}
        />
        {create.error && problem?.fields.size === 0 && <Failure problem={problemOf(create.error)} />}
        <footer>
          <Button variant="default" onClick={close}>
            {t("action.cancel")}
          </Button>
          <Button type="submit" loading={create.isPending}>
            {t("projects.make")}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
