import { PasswordInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";
import { explain } from "../../api/errors";
import { problemOf } from "../../api/problem";
import { api, session } from "../../auth/current";
import { Failure } from "../../components/Failure";
import { Card, Facts, Loading, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date, idOf } from "../../state/proto";

const LEAST = 12;

export function AccountPage() {
  const t = useT();
  const { data, error, refetch } = useQuery({
    queryKey: ["whoami"],
    queryFn: ({ signal }) => api.auth.whoAmI({}, { signal }),
  });
  return (
    <Page title={t("nav.account")}>
      {error && <Failure problem={problemOf(error)} retry={() => void refetch()} />}
      <div className="columns">
        <Card title={t("account.you")}>
          {data ? (
            <Facts
              facts={[
                [t("login.user"), idOf(data.user)],
                [
                  t("access.roles"),
                  <ul key="r" className="plain">
                    {data.roleBindings.map((one) => (
                      <li key={one.name}>
                        {idOf(one.role)} · {one.project === "" ? t("access.platform") : idOf(one.project)}
                      </li>
                    ))}
                  </ul>,
                ],
                [t("account.tokenEnds"), <Time key="e" at={date(data.expireTime)} />],
              ]}
            />
          ) : (
            <Loading rows={3} />
          )}
        </Card>
        <Password />
        <Card title={t("account.session")}>
          <p>{t("account.sessionWhy")}</p>
          <ReasonButton variant="default" reason={undefined} onClick={() => void session.logout()}>
            {t("account.logoutAll")}
          </ReasonButton>
          <p className="dim">{t("account.noTokens")}</p>
        </Card>
      </div>
    </Page>
  );
}

function Password() {
  const t = useT();
  const [form, setForm] = useState({ oldPassword: "", newPassword: "", again: "" });
  const change = useMutation({
    mutationFn: () =>
      api.users.changePassword({ name: "users/me", oldPassword: form.oldPassword, newPassword: form.newPassword }),
    onSuccess: () => setForm({ oldPassword: "", newPassword: "", again: "" }),
  });
  const problem = change.error && explain(change.error);
  const wrongOld = problem?.reason === "BAD_CREDENTIALS";
  const differs = form.again !== "" && form.again !== form.newPassword;
  const field = (key: keyof typeof form) => ({
    value: form[key],
    onChange: (event: { currentTarget: { value: string } }) => setForm({ ...form, [key]: event.currentTarget.value }),
    visibilityToggleButtonProps: { "aria-label": t("login.show") },
    required: true,
  });
  const reason =
    form.newPassword.length < LEAST
      ? t("password.least", { n: LEAST })
      : form.again !== form.newPassword
        ? t("password.differs")
        : undefined;
  return (
    <Card title={t("account.password")}>
      <form
        className="form"
        onSubmit={(event: SyntheticEvent) => {
          event.preventDefault();
          if (reason === undefined) change.mutate();
        }}
      >
        <PasswordInput
          label={t("password.old")}
          autoComplete="current-password"
          {...field("oldPassword")}
          error={wrongOld ? t("password.oldWrong") : problem?.fields.get("old_password")}
        />
        <PasswordInput
          label={t("password.new")}
          autoComplete="new-password"
          description={t("password.least", { n: LEAST })}
          {...field("newPassword")}
          error={problem?.fields.get("new_password")}
        />
        <PasswordInput
          label={t("password.again")}
          autoComplete="new-password"
          {...field("again")}
          error={differs ? t("password.differs") : undefined}
        />
        {change.error && !wrongOld && problem?.fields.size === 0 && <Failure problem={problemOf(change.error)} />}
        {change.isSuccess && <p role="status">{t("password.changed")}</p>}
        <ReasonButton type="submit" reason={reason} loading={change.isPending}>
          {t("password.change")}
        </ReasonButton>
      </form>
    </Card>
  );
}
