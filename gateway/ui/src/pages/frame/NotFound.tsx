import { Link } from "@tanstack/react-router";
import { useT } from "../../i18n";
import { Gate } from "../login/Gate";

export function NotFound() {
  const t = useT();
  return (
    <Gate title={t("notFound.title")}>
      <Link to="/">{t("nav.overview")}</Link>
    </Gate>
  );
}
