import { Button } from "@mantine/core";
import { session } from "../../auth/current";
import { Dialog } from "../../components/Dialog";
import { useT } from "../../i18n";
import { idOf } from "../../state/proto";
import { LoginForm } from "./LoginForm";

/** The session has ended: the same user goes on over the page, so that nothing that was typed is lost. */
export function Expired() {
  const t = useT();
  return (
    <Dialog title={t("expired.title")}>
      <p>{t("expired.why")}</p>
      <LoginForm user={idOf(session.user)} done={() => undefined} />
      <Button variant="subtle" onClick={() => void session.logout()}>
        {t("expired.other")}
      </Button>
    </Dialog>
  );
}
