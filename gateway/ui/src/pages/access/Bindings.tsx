import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useInfiniteQuery, useMutation, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { type SyntheticEvent, useState } from "react";
import { explain } from "../../api/errors";
import { type RoleBinding, RoleScope, RoleService } from "../../api/gen/upm/auth/v1/auth_pb";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { usePermissions } from "../../auth/permissions";
import { ConfirmDialog } from "../../components/Confirm";
import { DataTable } from "../../components/DataTable";
import { Dialog } from "../../components/Dialog";
import { Empty, Failure } from "../../components/Failure";
import { Card, Loading } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { useT } from "../../i18n";
import { idOf } from "../../state/proto";
import { useProjects, useRoles } from "../../auth/lists";

const { method } = RoleService;

/** Who has which role: everywhere, or in one project (`projects/{project}`). */
export function Bindings({ project }: { project: string }) {
  const t = useT();
  const queries = useQueryClient();
  const [adding, setAdding] = useState(false);
  const [taking, setTaking] = useState<RoleBinding>();
  const [user, setUser] = useState("");
  const [asked] = useDebouncedValue(user.trim(), 300);
  const pages = useInfiniteQuery({
    queryKey: ["bindings", project, asked],
    queryFn: ({ pageParam, signal }) =>
      api.roles.listRoleBindings(
        { project, user: asked === "" ? "" : `users/${asked}`, pageToken: pageParam, pageSize: 200 },
        { signal },
      ),
    initialPageParam: "",
    getNextPageParam: (page) => (page.nextPageToken === "" ? undefined : page.nextPageToken),
  });
  const may = usePermissions("", [method.createRoleBinding, method.deleteRoleBinding]);
  const because = (which: (typeof method)[keyof typeof method]) => {
    const { allowed, permission } = may(which);
    return allowed === false ? t("forbidden.platform", { permission }) : undefined;
  };
  const again = () => void queries.invalidateQueries({ queryKey: ["bindings"] });
  const columns: ColumnDef<RoleBinding>[] = [
    { id: "user", header: t("login.user"), accessorFn: (one) => idOf(one.user) },
    { id: "role", header: t("access.role"), accessorFn: (one) => idOf(one.role) },
    {
      id: "where",
      header: t("access.where"),
      accessorFn: (one) => (one.project === "" ? t("access.platform") : idOf(one.project)),
    },
    {
      id: "actions",
      header: t("users.actions"),
      enableSorting: false,
      cell: ({ row }) => (
        <ReasonButton
          variant="default"
          size="compact-xs"
          reason={because(method.deleteRoleBinding)}
          onClick={() => setTaking(row.original)}
        >
          {t("access.take")}
        </ReasonButton>
      ),
    },
  ];
  return (
    <Card
      title={project === "" ? t("access.bindings") : t("projects.members")}
      side={
        <ReasonButton size="compact-sm" reason={because(method.createRoleBinding)} onClick={() => setAdding(true)}>
          {t("access.give")}
        </ReasonButton>
      }
    >
      <div className="filters">
        <TextInput
          type="search"
          aria-label={t("access.filterUser")}
          placeholder={t("access.filterUser")}
          value={user}
          onChange={(event) => setUser(event.currentTarget.value)}
        />
      </div>
      {pages.error ? (
        <Failure problem={problemOf(pages.error)} retry={() => void pages.refetch()} />
      ) : !pages.data ? (
        <Loading rows={3} />
      ) : (
        <DataTable
          label={project === "" ? t("access.bindings") : t("projects.members")}
          rows={pages.data.pages.flatMap((page) => page.roleBindings)}
          columns={columns}
          rowId={(one) => one.name}
          empty={<Empty title={t("access.noBindings")} />}
        />
      )}
      {pages.hasNextPage && (
        <Button variant="default" loading={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
          {t("action.more")}
        </Button>
      )}
      {adding && <Give project={project} close={() => setAdding(false)} done={again} />}
      {taking && (
        <ConfirmDialog
          title={t("access.take")}
          text={t("access.takeWhy", { user: idOf(taking.user), role: idOf(taking.role) })}
          confirm={t("access.take")}
          danger
          problem={problemOf}
          run={() => api.roles.deleteRoleBinding({ name: taking.name })}
          done={again}
          close={() => setTaking(undefined)}
        />
      )}
    </Card>
  );
}

function Give({ project: fixed, close, done }: { project: string; close: () => void; done: () => void }) {
  const t = useT();
  const [form, setForm] = useState({ user: "", role: "", project: fixed });
  const roles = useRoles();
  const projects = useProjects();
  const give = useMutation({
    mutationFn: () =>
      api.roles.createRoleBinding({
        roleBinding: { user: `users/${form.user}`, role: form.role, project: form.project },
      }),
    onSuccess: () => {
      done();
      close();
    },
  });
  const problem = give.error && explain(give.error);
  const wrongScope = form.project === "" ? RoleScope.PROJECT : RoleScope.PLATFORM;
  const fitting = (roles.data?.roles ?? []).filter((one) => one.scope !== wrongScope);
  return (
    <Dialog title={t("access.give")} close={close}>
      <form
        className="form"
        onSubmit={(event: SyntheticEvent) => {
          event.preventDefault();
          give.mutate();
        }}
      >
        <TextInput
          label={t("login.user")}
          required
          autoFocus
          value={form.user}
          onChange={(event) => setForm({ ...form, user: event.currentTarget.value })}
          error={problem?.fields.get("role_binding.user")}
        />
        <NativeSelect
          label={t("access.where")}
          value={form.project}
          disabled={fixed !== ""}
          onChange={(event) => setForm({ ...form, project: event.currentTarget.value, role: "" })}
          error={problem?.fields.get("role_binding.project")}
          data={[
            { value: "", label: t("access.platform") },
            ...(projects.data?.projects ?? []).map((one) => ({ value: one.name, label: idOf(one.name) })),
          ]}
        />
        <NativeSelect
          label={t("access.role")}
          required
          value={form.role}
          onChange={(event) => setForm({ ...form, role: event.currentTarget.value })}
          error={problem?.fields.get("role_binding.role")}
          description={fitting.find((one) => one.name === form.role)?.description}
          data={[{ value: "", label: "–" }, ...fitting.map((one) => ({ value: one.name, label: idOf(one.name) }))]}
        />
        {give.error && problem?.fields.size === 0 && <Failure problem={problemOf(give.error)} />}
        <Button type="submit" loading={give.isPending}>
          {t("access.give")}
        </Button>
      </form>
    </Dialog>
  );
}
