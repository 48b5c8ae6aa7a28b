import { Tabs } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { problemOf } from "../../../api/problem";
import { usePermissions } from "../../../auth/permissions";
import { Empty, Failure } from "../../../components/Failure";
import { Freshness } from "../../../components/Freshness";
import { Loading, Page } from "../../../components/Page";
import { ReasonButton } from "../../../components/Reason";
import { State } from "../../../components/State";
import { Time } from "../../../components/Time";
import { useT } from "../../../i18n";
import { OperationsTable } from "../../operations/OperationsTable";
import { Follow } from "../../operations/Follow";
import { useServices } from "../engines";
import type { RefusalView, ServiceView } from "../model";
import { FailoverAction, RestartAction, ScaleAction, SwitchoverAction } from "./Actions";
import { Connection } from "./Connection";
import { DangerZone } from "./Danger";
import { Logs } from "./Logs";
import { Overview } from "./Overview";
import { RefusedElection } from "./Refusal";
import { ServiceParameters } from "./ServiceParameters";
import { useReasons } from "./reasons";
import { usePageParams, usePageSearch } from "../../../state/route";

const TABS = ["overview", "connection", "operations", "parameters", "logs", "settings"] as const;

export function ServicePage() {
  const t = useT();
  const param = usePageParams();
  const name = `projects/${param("project")}/${param("collection")}/${param("service")}`;
  const { items, ready, link, since, error, retry } = useServices();
  const service = items.get(name);
  const [last, setLast] = useState<ServiceView>();
  // What was shown last stays while its deletion is followed.
  if (service && service !== last) setLast(service);
  const shown = service ?? (last?.name === name ? last : undefined);
  const crumbs = [{ to: "/services", text: t("nav.services") }];
  if (!shown) {
    return (
      <Page title={param("service")} crumbs={crumbs}>
        {error !== undefined && !ready ? (
          <Failure problem={problemOf(error)} retry={retry} />
        ) : ready ? (
          <Empty title={t("service.missing")} />
        ) : (
          <Loading />
        )}
      </Page>
    );
  }
  return (
    <Shown
      key={name}
      service={shown}
      gone={!service}
      fresh={<Freshness link={link} retry={retry} {...(since && { since })} />}
      stale={link === "stale"}
      crumbs={crumbs}
    />
  );
}

function Shown(props: {
  service: ServiceView;
  gone: boolean;
  stale: boolean;
  fresh: React.ReactNode;
  crumbs: { to: string; text: string }[];
}) {
  const t = useT();
  const { service, gone } = props;
  const { engine } = service;
  const navigate = useNavigate({ from: "/services/$project/$collection/$service" });
  const { tab = "overview" } = usePageSearch();
  const may = usePermissions(`projects/${service.project}`, Object.values(engine.methods));
  const reasons = useReasons(service, may, gone);
  const [action, setAction] = useState<"restart" | "scale">();
  const [target, setTarget] = useState<string>();
  const [accepting, setAccepting] = useState<RefusalView>();
  const titles: Record<(typeof TABS)[number], string> = {
    overview: t("service.overview"),
    connection: t("service.connection"),
    operations: t("nav.operations"),
    parameters: t("field.parameters"),
    logs: t("logs.title"),
    settings: t("service.settings"),
  };
  return (
    <Page
      title={service.id}
      crumbs={[...props.crumbs, { to: `/projects/${service.project}`, text: service.project }]}
      badge={<State group="service" value={gone ? "DELETING" : service.state} />}
      fresh={props.fresh}
      actions={
        <>
          <ReasonButton variant="default" size="compact-md" reason={reasons.scale} onClick={() => setAction("scale")}>
            {t("action.scale")}
          </ReasonButton>
          <ReasonButton variant="default" size="compact-md" reason={reasons.switchover} onClick={() => setTarget("")}>
            {t("action.switchover")}
          </ReasonButton>
          <ReasonButton
            variant="default"
            size="compact-md"
            reason={reasons.restart}
            onClick={() => setAction("restart")}
          >
            {t("action.restart")}
          </ReasonButton>
        </>
      }
    >
      {gone && (
        <div className="notice" data-tone="idle">
          {t("service.gone")}
        </div>
      )}
      {!gone && service.message !== "" && service.state !== "READY" && (
        <div
          className="notice"
          data-tone={service.state === "UNAVAILABLE" || service.state === "FAILED" ? "bad" : "warn"}
        >
          {service.message}
        </div>
      )}
      {!gone && !service.agentConnected && (
        <div className="notice" data-tone="warn" role="status">
          {t("service.agentAway", { cluster: service.cluster })} <Time at={service.observed} />
        </div>
      )}
      {!gone && service.refusal && (
        <RefusedElection refusal={service.refusal} reason={reasons.failover} accept={setAccepting} />
      )}
      {service.operation !== "" && !gone && (
        <section className="card" aria-label={t("service.now")}>
          <Follow name={service.operation} compact />
        </section>
      )}
      <Tabs
        value={tab}
        keepMounted={false}
        onChange={(next) =>
          void navigate({
            search: (before: object) => ({ ...before, tab: next === null || next === "overview" ? undefined : next }),
            replace: true,
          })
        }
      >
        <Tabs.List>
          {TABS.map((one) => (
            <Tabs.Tab key={one} value={one}>
              {titles[one]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value="overview">
          <div data-old={props.stale || !service.agentConnected || undefined}>
            <Overview service={service} switchoverReason={reasons.switchover} onSwitchover={setTarget} />
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="connection">
          <Connection service={service} passwordReason={reasons.password} />
        </Tabs.Panel>
        <Tabs.Panel value="operations">
          <OperationsTable module={engine.module} target={service.name} current={service.operation} />
        </Tabs.Panel>
        <Tabs.Panel value="parameters">
          <ServiceParameters service={service} />
        </Tabs.Panel>
        <Tabs.Panel value="logs">
          <Logs service={service} />
        </Tabs.Panel>
        <Tabs.Panel value="settings">
          <DangerZone service={service} reasons={reasons} />
        </Tabs.Panel>
      </Tabs>
      {action === "restart" && <RestartAction service={service} close={() => setAction(undefined)} />}
      {action === "scale" && <ScaleAction service={service} close={() => setAction(undefined)} />}
      {target !== undefined && (
        <SwitchoverAction service={service} target={target} close={() => setTarget(undefined)} />
      )}
      {accepting && <FailoverAction service={service} refusal={accepting} close={() => setAccepting(undefined)} />}
    </Page>
  );
}
