import { Link, useRouter } from "@tanstack/react-router";
import { useT } from "../../i18n";
import { Gate } from "./Gate";
import { LoginForm } from "./LoginForm";
import { usePageSearch } from "../../state/route";

export function LoginPage() {
  const t = useT();
  const router = useRouter();
  const { from } = usePageSearch();
  return (
    <Gate title={t("action.login")}>
      <LoginForm
        done={() =>
          router.history.push(
            from?.startsWith("/") && !from.startsWith("//") ? from : router.buildLocation({ to: "/" }).href,
          )
        }
      />
      <p className="dim">
        {t("login.first")} <Link to="/setup">{t("setup.title")}</Link>
      </p>
    </Gate>
  );
}
