import { useMutation } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { Mono } from "../../components/Copy";
import { Failure } from "../../components/Failure";
import { Card, Facts, Loading, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { State } from "../../components/State";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { idOf, serviceParts } from "../../state/proto";
import { span } from "../../state/times";
import { Follow, useOperation } from "./Follow";
import { usePageParams } from "../../state/route";

export function OperationPage() {
  const t = useT();
  const param = usePageParams();
  const module = param("module");
  const id = param("operation");
  const name = `operations/${module}/${id}`;
  const { operation, picture, retry } = useOperation(name);
  const cancel = useMutation({ mutationFn: () => api.operations.cancelOperation({ name }) });
  const crumbs = [{ to: "/operations", text: t("nav.operations") }];
  if (!operation) {
    return (
      <Page title={id} crumbs={crumbs}>
        {picture.error === undefined ? <Loading /> : <Failure problem={problemOf(picture.error)} retry={retry} />}
      </Page>
    );
  }
  const parts = serviceParts(operation.target);
  const reason = operation.done
    ? t("operation.done")
    : operation.cancellable
      ? undefined
      : operation.state === "CANCELLING"
        ? t("operation.cancelling")
        : t("operation.pastReturn");
  return (
    <Page
      title={operation.kind}
      crumbs={crumbs}
      badge={<State group="operation" value={operation.state} />}
      actions={
        <ReasonButton
          variant="default"
          size="compact-md"
          reason={reason}
          loading={cancel.isPending}
          onClick={() => cancel.mutate()}
        >
          {t("operation.cancel")}
        </ReasonButton>
      }
    >
      {cancel.error && <Failure problem={problemOf(cancel.error)} />}
      <div className="columns">
        <Card title={t("operation.steps")}>
          <Follow name={name} />
        </Card>
        <Card title={t("service.facts")}>
          <Facts
            facts={[
              [
                t("operation.target"),
                parts ? (
                  <Link key="t" to="/services/$project/$collection/$service" params={parts}>
                    {parts.project} / {parts.service}
                  </Link>
                ) : (
                  operation.target
                ),
              ],
              [t("plan.risk"), operation.risk],
              [t("operation.principal"), idOf(operation.principal)],
              [t("operation.created"), <Time key="c" at={operation.created} />],
              [t("operation.started"), <Time key="s" at={operation.started} />],
              [t("operation.ended"), <Time key="e" at={operation.ended} />],
              [t("operation.deadline"), <Time key="d" at={operation.deadline} />],
              [t("operation.expected"), operation.expected === undefined ? "" : span(operation.expected)],
              [t("operation.name"), <Mono key="n" text={name} what={t("operation.name")} />],
              [t("operation.trace"), <Mono key="r" text={operation.traceId} what={t("operation.trace")} />],
            ]}
          />
        </Card>
      </div>
    </Page>
  );
}
