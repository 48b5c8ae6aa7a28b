import { Button, PasswordInput, TextInput } from "@mantine/core";
import { type SyntheticEvent, useState } from "react";
import { explain } from "../../api/errors";
import { publicAuth, session } from "../../auth/current";
import { useT } from "../../i18n";
import { span } from "../../state/times";

/** User and password. `user` is given when only that user can go on. */
export function LoginForm({ user, done }: { user?: string; done: () => void }) {
  const t = useT();
  const [userId, setUserId] = useState(user ?? "");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  async function submit(event: SyntheticEvent) {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      session.begin(await publicAuth.login({ userId, password }));
      done();
    } catch (caught) {
      const { reason, message, retryAfter } = explain(caught);
      if (reason === "BAD_CREDENTIALS") setError(t("login.wrong"));
      else if (reason === "LOGIN_THROTTLED") setError(t("login.throttled", { span: span(retryAfter ?? 0) }));
      else setError(message);
    } finally {
      setBusy(false);
    }
  }
  return (
    <form onSubmit={(event) => void submit(event)} className="form">
      <TextInput
        label={t("login.user")}
        autoComplete="username"
        required
        autoFocus={user === undefined}
        readOnly={user !== undefined}
        value={userId}
        onChange={(event) => setUserId(event.currentTarget.value)}
      />
      <PasswordInput
        label={t("login.password")}
        autoComplete="current-password"
        required
        autoFocus={user !== undefined}
        value={password}
        onChange={(event) => setPassword(event.currentTarget.value)}
        visibilityToggleButtonProps={{ "aria-label": t("login.show") }}
      />
      {error !== "" && (
        <p role="alert" className="form-error">
          {error}
        </p>
      )}
      <Button type="submit" loading={busy}>
        {t("action.login")}
      </Button>
    </form>
  );
}
