import type { May } from "../../../auth/permissions";
import { useT } from "../../../i18n";
import type { ServiceView } from "../model";

type Act = keyof ServiceView["engine"]["methods"];

/** Why a service's actions cannot be used now; undefined where one can. The server decides in any case: the plan says what else is unmet. */
export function useReasons(service: ServiceView, may: May, gone: boolean): Record<Act, string | undefined> {
  const t = useT();
  const reason = (act: Act): string | undefined => {
    if (gone) return t("service.gone");
    const { allowed, permission } = may(service.engine.methods[act]);
    if (allowed === undefined) return t("forbidden.asking");
    if (!allowed) return t("forbidden.permission", { permission, project: service.project });
    const changes =
      act === "restart" || act === "switchover" || act === "failover" || act === "scale" || act === "delete";
    if (changes && service.operation !== "") return t("forbidden.busy");
    if (act === "switchover" && service.members.length < 2) return t("forbidden.single");
    if (act === "failover" && !service.refusal) return t("failover.nothing");
    if (act === "failover" && service.refusal?.candidate === "") return t("failover.nobody");
    return undefined;
  };
  return {
    list: reason("list"),
    create: reason("create"),
    update: reason("update"),
    delete: reason("delete"),
    restart: reason("restart"),
    switchover: reason("switchover"),
    failover: reason("failover"),
    scale: reason("scale"),
    connection: reason("connection"),
    password: reason("password"),
  };
}
