import { Link, useRouter } from "@tanstack/react-router";
import { useT } from "../../i18n";
import { Gate } from "./Gate";
import { LoginForm } from "./LoginForm";
import { usePageSearch } from "../../state/route";

export function LoginPage() {
  const t = useT();
  const router = useRouter();
  const { from } = usePageSearch();
  function go() {
    // Only a path of this page: "//host" would be another one's.
    if (from?.startsWith("/") && !from.startsWith("//")) router.history.push(from);
    else void router.navigate({ to: "/" });
  }
  return (
    <Gate title={t("action.login")}>
      <LoginForm done={go} />
      <p className="dim">
        {t("login.first")} <Link to="/setup">{t("setup.title")}</Link>
      </p>
    </Gate>
  );
}
