import { Button, NativeSelect, PasswordInput, TextInput } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQueryClient } from "@tanstack/react-query";
import type { ColumnDef } from "@tanstack/react-table";
import { type SyntheticEvent, useMemo, useState } from "react";
import { uuid } from "../../api/base";
import { explain } from "../../api/errors";
import { type User, UserService } from "../../api/gen/upm/user/v1/user_pb";
import { problemOf } from "../../api/problem";
import { api, session } from "../../auth/current";
import { type May, usePermissions } from "../../auth/permissions";
import { ConfirmDialog } from "../../components/Confirm";
import { DataTable } from "../../components/DataTable";
import { Dialog } from "../../components/Dialog";
import { Empty, Failure } from "../../components/Failure";
import { AsOf } from "../../components/Freshness";
import { Loading } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { State } from "../../components/State";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date, idOf } from "../../state/proto";

const { method } = UserService;

type Asked = { act: "new" } | { act: "reset" | "turn" | "delete"; user: User };

export function Users() {
  const t = useT();
  const queries = useQueryClient();
  const [asked, setAsked] = useState<Asked>();
  const [filter, setFilter] = useState("");
  const pages = useInfiniteQuery({
    queryKey: ["users", filter],
    queryFn: ({ pageParam, signal }) =>
      api.users.listUsers({ filter, pageToken: pageParam, pageSize: 200 }, { signal }),
    initialPageParam: "",
    getNextPageParam: (page) => (page.nextPageToken === "" ? undefined : page.nextPageToken),
  });
  const may = usePermissions("", [method.createUser, method.resetPassword, method.disableUser, method.deleteUser]);
  const again = () => void queries.invalidateQueries({ queryKey: ["users"] });
  const columns = useColumns(may, setAsked);
  const close = () => setAsked(undefined);
  const { allowed, permission } = may(method.createUser);
  return (
    <>
      <div className="filters">
        <ReasonButton
          size="compact-md"
          reason={allowed === false ? t("forbidden.platform", { permission }) : undefined}
          onClick={() => setAsked({ act: "new" })}
        >
          {t("users.new")}
        </ReasonButton>
        <NativeSelect
          aria-label={t("users.mayLogin")}
          value={filter}
          onChange={(event) => setFilter(event.currentTarget.value)}
          data={[
            { value: "", label: t("users.all") },
            { value: "disabled=false", label: t("users.mayLogin") },
            { value: "disabled=true", label: t("users.disabled") },
          ]}
        />
        <span className="grow" />
        <AsOf at={pages.dataUpdatedAt} refresh={() => void pages.refetch()} />
      </div>
      {pages.error ? (
        <Failure problem={problemOf(pages.error)} retry={() => void pages.refetch()} />
      ) : !pages.data ? (
        <Loading />
      ) : (
        <DataTable
          label={t("access.users")}
          rows={pages.data.pages.flatMap((page) => page.users)}
          columns={columns}
          rowId={(one) => one.name}
          empty={<Empty title={t("users.none")} />}
        />
      )}
      {pages.hasNextPage && (
        <Button variant="default" loading={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
          {t("action.more")}
        </Button>
      )}
      {asked?.act === "new" && <NewUser close={close} done={again} />}
      {asked?.act === "reset" && <Reset user={asked.user} close={close} />}
      {asked?.act === "turn" && (
        <ConfirmDialog
          title={asked.user.disabled ? t("users.enable") : t("users.disable")}
          text={
            asked.user.disabled
              ? t("users.enableWhy", { user: idOf(asked.user.name) })
              : t("users.disableWhy", { user: idOf(asked.user.name) })
          }
          confirm={asked.user.disabled ? t("users.enable") : t("users.disable")}
          danger={!asked.user.disabled}
          problem={problemOf}
          run={() =>
            asked.user.disabled
              ? api.users.enableUser({ name: asked.user.name })
              : api.users.disableUser({ name: asked.user.name })
          }
          done={again}
          close={close}
        />
      )}
      {asked?.act === "delete" && (
        <ConfirmDialog
          title={t("users.delete")}
          typed={idOf(asked.user.name)}
          confirm={t("users.delete")}
          danger
          problem={problemOf}
          run={() => api.users.deleteUser({ name: asked.user.name, etag: asked.user.etag })}
          done={again}
          close={close}
        />
      )}
    </>
  );
}

function useColumns(may: May, ask: (asked: Asked) => void): ColumnDef<User>[] {
  const t = useT();
  const because = (which: Parameters<May>[0], user: User) => {
    if (user.name === session.user) return t("users.yourself");
    const { allowed, permission } = may(which);
    return allowed === false ? t("forbidden.platform", { permission }) : undefined;
  };
  return [
    {
      id: "name",
      header: t("login.user"),
      accessorFn: (one) => idOf(one.name),
      cell: ({ row }) => <strong>{idOf(row.original.name)}</strong>,
    },
    { id: "display", header: t("field.displayName"), accessorKey: "displayName" },
    { id: "email", header: t("users.email"), accessorKey: "email" },
    {
      id: "enabled",
      header: t("users.mayLogin"),
      accessorKey: "disabled",
      cell: ({ row }) => <State group="yesno" value={row.original.disabled ? "NO" : "YES"} />,
    },
    {
      id: "password",
      header: t("users.passwordSet"),
      cell: ({ row }) => <Time at={date(row.original.passwordChangeTime)} />,
    },
    {
      id: "actions",
      header: t("users.actions"),
      enableSorting: false,
      cell: ({ row: { original: user } }) => (
        <div className="actions">
          <ReasonButton
            variant="default"
            size="compact-xs"
            reason={because(method.resetPassword, user)}
            onClick={() => ask({ act: "reset", user })}
          >
            {t("users.reset")}
          </ReasonButton>
          <ReasonButton
            variant="default"
            size="compact-xs"
            reason={because(method.disableUser, user)}
            onClick={() => ask({ act: "turn", user })}
          >
            {user.disabled ? t("users.enable") : t("users.disable")}
          </ReasonButton>
          <ReasonButton
            variant="default"
            size="compact-xs"
            reason={because(method.deleteUser, user)}
            onClick={() => ask({ act: "delete", user })}
          >
            {t("users.delete")}
          </ReasonButton>
        </div>
      ),
    },
  ];
}

function NewUser({ close, done }: { close: () => void; done: () => void }) {
  const t = useT();
  const [form, setForm] = useState({ userId: "", displayName: "", email: "", password: "" });
  const requestId = useMemo(uuid, []);
  const create = useMutation({
    mutationFn: () =>
      api.users.createUser({
        userId: form.userId,
        user: { displayName: form.displayName, email: form.email },
        password: form.password,
        requestId,
      }),
    onSuccess: () => {
      done();
      close();
    },
  });
  const problem = create.error && explain(create.error);
  const field = (key: keyof typeof form, path: string) => ({
    value: form[key],
    onChange: (event: { currentTarget: { value: string } }) => setForm({ ...form, [key]: event.currentTarget.value }),
    error: problem?.fields.get(path),
  });
  return (
    <Dialog title={t("users.new")} close={close}>
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
          required
          autoFocus
          autoComplete="off"
          {...field("userId", "user_id")}
        />
        <TextInput label={t("field.displayName")} autoComplete="off" {...field("displayName", "user.display_name")} />
        <TextInput label={t("users.email")} autoComplete="off" {...field("email", "user.email")} />
        <PasswordInput
          label={t("login.password")}
          description={t("users.passwordOptional")}
          autoComplete="new-password"
          visibilityToggleButtonProps={{ "aria-label": t("login.show") }}
          {...field("password", "password")}
        />
        {create.error && problem?.fields.size === 0 && <Failure problem={problemOf(create.error)} />}
        <footer>
          <Button variant="default" onClick={close}>
            {t("action.cancel")}
          </Button>
          <Button type="submit" loading={create.isPending}>
            {t("users.make")}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

function Reset({ user, close }: { user: User; close: () => void }) {
  const t = useT();
  const [newPassword, setPassword] = useState("");
  const reset = useMutation({
    mutationFn: () => api.users.resetPassword({ name: user.name, newPassword }),
    onSuccess: close,
  });
  const problem = reset.error && explain(reset.error);
  return (
    <Dialog title={t("users.resetTitle", { user: idOf(user.name) })} close={close}>
      <form
        className="form"
        onSubmit={(event: SyntheticEvent) => {
          event.preventDefault();
          reset.mutate();
        }}
      >
        <PasswordInput
          label={t("password.new")}
          description={t("password.least", { n: 12 })}
          required
          autoFocus
          autoComplete="new-password"
          value={newPassword}
          onChange={(event) => setPassword(event.currentTarget.value)}
          error={problem?.fields.get("new_password")}
          visibilityToggleButtonProps={{ "aria-label": t("login.show") }}
        />
        {reset.error && problem?.fields.size === 0 && <Failure problem={problemOf(reset.error)} />}
        <Button type="submit" loading={reset.isPending}>
          {t("users.reset")}
        </Button>
      </form>
    </Dialog>
  );
}
