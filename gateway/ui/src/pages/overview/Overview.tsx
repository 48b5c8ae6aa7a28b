import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { ClusterState } from "../../api/gen/upm/resource/v1/resource_pb";
import { OperatorLogService } from "../../api/gen/upm/operatorlog/v1/operatorlog_pb";
import { problemOf } from "../../api/problem";
import { api } from "../../auth/current";
import { usePermissions } from "../../auth/permissions";
import { Empty, Failure } from "../../components/Failure";
import { AsOf, Freshness } from "../../components/Freshness";
import { Card, Loading, Page } from "../../components/Page";
import { State } from "../../components/State";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date, idOf } from "../../state/proto";
import { bytes, cpus } from "../../state/quantities";
import { wordsOf } from "../../state/words";
import { useClusters } from "../../auth/lists";
import { OperationsTable } from "../operations/OperationsTable";
import { useEngines, useServices } from "../services/engines";
import { ServiceLink } from "../services/generic/List";
import { usePageSearch } from "../../state/route";

export function OverviewPage() {
  const t = useT();
  const engines = useEngines();
  const { project } = usePageSearch();
  const { items, ready, link, since, error, retry } = useServices();
  const services = useMemo(
    () => [...items.values()].filter((one) => project === undefined || one.project === project),
    [items, project],
  );
  const ill = services.filter((one) => one.state !== "READY" || !one.agentConnected);
  return (
    <Page title={t("nav.overview")} fresh={<Freshness link={link} retry={retry} {...(since && { since })} />}>
      {error !== undefined && !ready && <Failure problem={problemOf(error)} retry={retry} />}
      <ul className="counts" aria-label={t("overview.health")}>
        {wordsOf("service").map(([state]) => (
          <li key={state}>
            <Link to="/services" search={{ state }} className="count">
              <strong>{ready ? services.filter((one) => one.state === state).length : "…"}</strong>
              <State group="service" value={state} />
            </Link>
          </li>
        ))}
      </ul>
      <div className="columns">
        <Card title={t("overview.ill")}>
          {!ready ? (
            <Loading rows={2} />
          ) : ill.length === 0 ? (
            <Empty title={services.length === 0 ? t("services.none") : t("overview.allWell", { n: services.length })}>
              {services.length === 0 && <Link to="/services/new">{t("services.new")}</Link>}
            </Empty>
          ) : (
            <ul className="plain rows">
              {ill.map((one) => (
                <li key={one.name}>
                  <State group="service" value={one.state} /> <ServiceLink service={one} />{" "}
                  <span className="dim">{one.message}</span>
                </li>
              ))}
            </ul>
          )}
        </Card>
        <Clusters />
        <div className="wide">
          <Card title={t("nav.operations")} side={<Link to="/operations">{t("overview.all")}</Link>}>
            {engines.map((engine) => (
              <OperationsTable
                key={engine.module}
                module={engine.module}
                most={8}
                current={services.map((one) => one.operation).join()}
              />
            ))}
          </Card>
        </div>
        <div className="wide">
          <Newest />
        </div>
      </div>
    </Page>
  );
}

function Clusters() {
  const t = useT();
  const { data, error, refetch, dataUpdatedAt } = useClusters();
  return (
    <Card title={t("nav.clusters")} side={<AsOf at={dataUpdatedAt} refresh={() => void refetch()} />}>
      {error ? (
        <Failure problem={problemOf(error)} retry={() => void refetch()} />
      ) : !data ? (
        <Loading rows={2} />
      ) : data.clusters.length === 0 ? (
        <Empty title={t("clusters.none")}>
          <Link to="/clusters/new">{t("clusters.join")}</Link>
        </Empty>
      ) : (
        <ul className="plain rows">
          {data.clusters.map((one) => (
            <li key={one.name}>
              <State group="cluster" value={ClusterState[one.state]} />{" "}
              <Link to="/clusters/$cluster" params={{ cluster: idOf(one.name) }}>
                {idOf(one.name)}
              </Link>{" "}
              <span className="dim">
                {t("overview.capacity", {
                  nodes: `${one.capacity?.readyNodes ?? 0}/${one.capacity?.nodes ?? 0}`,
                  cpu: cpus(Number(one.capacity?.allocatableCpuMillis ?? 0n)),
                  memory: bytes(Number(one.capacity?.allocatableMemoryBytes ?? 0n)),
                })}{" "}
                · <Time at={date(one.lastSeenTime)} />
              </span>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

function Newest() {
  const t = useT();
  const may = usePermissions("", [OperatorLogService.method.listEntries]);
  const { allowed, permission } = may(OperatorLogService.method.listEntries);
  const { data, error } = useQuery({
    queryKey: ["log", "newest"],
    queryFn: ({ signal }) => api.log.listEntries({ pageSize: 6 }, { signal }),
    enabled: allowed === true,
  });
  return (
    <Card title={t("overview.log")} side={<Link to="/log">{t("overview.all")}</Link>}>
      {allowed === false ? (
        <p className="dim">{t("forbidden.platform", { permission })}</p>
      ) : error ? (
        <Failure problem={problemOf(error)} />
      ) : !data ? (
        <Loading rows={3} />
      ) : (
        <ul className="plain rows">
          {data.entries.map((entry) => (
            <li key={entry.name}>
              <Time at={date(entry.eventTime)} /> <strong>{idOf(entry.principal)}</strong>{" "}
              {entry.method.slice(entry.method.lastIndexOf("/") + 1)} <span className="dim">{entry.resource}</span>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}
