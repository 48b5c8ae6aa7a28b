import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { SoftwareService } from "../../api/gen/upm/resource/v1/resource_pb";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { usePermissions } from "../../auth/permissions";
import { Mono } from "../../components/Copy";
import { Failure } from "../../components/Failure";
import { Card, Facts, Loading, Page } from "../../components/Page";
import { Parameters } from "../../components/Parameters";
import { ReasonButton } from "../../components/Reason";
import { useT } from "../../i18n";
import { usePageParams } from "../../state/route";

export function SoftwarePage() {
  const t = useT();
  const queries = useQueryClient();
  const param = usePageParams();
  const id = param("software");
  const name = `software/${id}`;
  const { data, error, refetch } = useQuery({
    queryKey: ["software", name],
    queryFn: ({ signal }) => api.software.getSoftware({ name }, { signal }),
  });
  const may = usePermissions("", [SoftwareService.method.updateSoftware]);
  const { allowed, permission } = may(SoftwareService.method.updateSoftware);
  const turn = useMutation({
    mutationFn: () =>
      api.software.updateSoftware({
        software: { name, enabled: !data?.enabled, ...(data && { etag: data.etag }) },
        updateMask: { paths: ["enabled"] },
      }),
    onSuccess: () => void queries.invalidateQueries({ queryKey: ["software"] }),
  });
  const crumbs = [{ to: "/software", text: t("nav.software") }];
  if (!data) {
    return (
      <Page title={id} crumbs={crumbs}>
        {error ? <Failure problem={problemOf(error)} retry={() => void refetch()} /> : <Loading />}
      </Page>
    );
  }
  const parts: [string, string][] = [
    [t("software.template"), data.content?.configTemplate ?? ""],
    [t("software.values"), data.content?.configValue ?? ""],
    [t("software.pod"), data.content?.podTemplate ?? ""],
  ];
  return (
    <Page
      title={id}
      crumbs={crumbs}
      actions={
        <ReasonButton
          variant="default"
          size="compact-md"
          reason={allowed === false ? t("forbidden.platform", { permission }) : undefined}
          loading={turn.isPending}
          onClick={() => turn.mutate()}
        >
          {data.enabled ? t("software.hide") : t("software.offer")}
        </ReasonButton>
      }
    >
      {turn.error && <Failure problem={problemOf(turn.error)} />}
      <Card title={t("service.facts")}>
        <Facts
          facts={[
            [t("services.engine"), data.type],
            [t("software.edition"), data.edition],
            [t("field.version"), data.version],
            [t("software.enabled"), data.enabled ? t("word.yes") : t("word.no")],
            [t("software.digest"), <Mono key="d" text={data.digest} what={t("software.digest")} />],
          ]}
        />
      </Card>
      <Card title={t("field.parameters")}>
        <Parameters parameters={data.parameters} set={{}} />
      </Card>
      {parts.map(([title, text]) => (
        <details key={title} className="card">
          <summary>{title}</summary>
          <pre tabIndex={0} aria-label={title}>
            {text}
          </pre>
        </details>
      ))}
    </Page>
  );
}
