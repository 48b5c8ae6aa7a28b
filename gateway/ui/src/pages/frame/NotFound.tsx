import { Link } from "@tanstack/react-router";
import { Empty } from "../../components/Failure";
import { useT } from "../../i18n";

export function NotFound() {
  const t = useT();
  return (
    <Empty title={t("notFound.title")}>
      <Link to="/">{t("nav.overview")}</Link>
    </Empty>
  );
}
