import { Button, PasswordInput, TextInput } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { explain } from "../../api/errors";
import { publicAuth, session } from "../../auth/current";
import { useT } from "../../i18n";
import { Gate } from "./Gate";

/** The least length of a password, as the API has it. */
const LEAST = 12;

export function SetupPage() {
  const t = useT();
  const navigate = useNavigate();
  const [form, setForm] = useState({ setupToken: "", userId: "admin", password: "", again: "" });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ReturnType<typeof explain>>();
  const set = (key: keyof typeof form) => (event: { currentTarget: { value: string } }) => {
    const { value } = event.currentTarget;
    setForm((before) => ({ ...before, [key]: value }));
  };
  const differs = form.again !== "" && form.again !== form.password;
  async function submit(event: SyntheticEvent) {
    event.preventDefault();
    if (form.again !== form.password) return;
    setBusy(true);
    setError(undefined);
    try {
      const { setupToken, userId, password } = form;
      session.begin(await publicAuth.setup({ setupToken: setupToken.trim(), userId, password }));
      await navigate({ to: "/" });
    } catch (caught) {
      setError(explain(caught));
    } finally {
      setBusy(false);
    }
  }
  const told =
    error?.reason === "SETUP_TOKEN_INVALID"
      ? t("setup.tokenWrong")
      : error?.reason === "ALREADY_SET_UP"
        ? t("setup.already")
        : error && error.fields.size === 0
          ? error.message
          : "";
  return (
    <Gate title={t("setup.title")}>
      <p className="dim">{t("setup.why")}</p>
      <form onSubmit={(event) => void submit(event)} className="form">
        <PasswordInput
          label={t("setup.token")}
          description={t("setup.tokenWhere")}
          required
          autoFocus
          autoComplete="off"
          value={form.setupToken}
          onChange={set("setupToken")}
          error={error?.fields.get("setup_token")}
          visibilityToggleButtonProps={{ "aria-label": t("login.show") }}
        />
        <TextInput
          label={t("login.user")}
          required
          autoComplete="username"
          value={form.userId}
          onChange={set("userId")}
          error={error?.fields.get("user_id")}
        />
        <PasswordInput
          label={t("login.password")}
          description={t("password.least", { n: LEAST })}
          required
          minLength={LEAST}
          autoComplete="new-password"
          value={form.password}
          onChange={set("password")}
          error={error?.fields.get("password")}
          visibilityToggleButtonProps={{ "aria-label": t("login.show") }}
        />
        <PasswordInput
          label={t("password.again")}
          required
          autoComplete="new-password"
          value={form.again}
          onChange={set("again")}
          error={differs ? t("password.differs") : undefined}
          visibilityToggleButtonProps={{ "aria-label": t("login.show") }}
        />
        {told !== "" && (
          <p role="alert" className="form-error">
            {told}
          </p>
        )}
        <Button type="submit" loading={busy}>
          {t("setup.submit")}
        </Button>
      </form>
      <p className="dim">
        <Link to="/login">{t("action.login")}</Link>
      </p>
    </Gate>
  );
}
