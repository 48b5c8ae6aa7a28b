import { useQuery } from "@tanstack/react-query";
import { problemOf } from "../../../api/problem";
import { api } from "../../../auth/current";
import { Failure } from "../../../components/Failure";
import { Card, Loading } from "../../../components/Page";
import { Parameters } from "../../../components/Parameters";
import { useT } from "../../../i18n";
import type { ServiceView } from "../model";
import { useCatalogue } from "../../../auth/lists";

/** The package of a type and version, with its parameters. */
export function usePackage(type: string, version: string) {
  const list = useCatalogue();
  const known = (list.data?.software ?? []).filter((one) => one.type === type);
  const enabled = known.filter((one) => one.enabled);
  const name = (version === "" ? enabled : known).find((one) => version === "" || one.version === version)?.name ?? "";
  const one = useQuery({
    queryKey: ["software", name],
    queryFn: ({ signal }) => api.software.getSoftware({ name }, { signal }),
    enabled: name !== "",
  });
  return {
    versions: enabled.map((each) => each.version),
    software: one.data,
    error: list.error ?? one.error,
    missing: list.data !== undefined && name === "",
  };
}

export function ServiceParameters({ service }: { service: ServiceView }) {
  const t = useT();
  const { software, error, missing } = usePackage(service.engine.software, service.version);
  if (error) return <Failure problem={problemOf(error)} />;
  if (missing) return <p className="dim">{t("parameters.noPackage", { version: service.version })}</p>;
  if (!software) return <Loading />;
  return (
    <Card title={t("field.parameters")}>
      <p className="dim">{t("parameters.readOnly")}</p>
      <Parameters parameters={software.parameters} set={service.parameters} />
    </Card>
  );
}
