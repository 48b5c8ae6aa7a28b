import { Button, NativeSelect, TextInput } from "@mantine/core";
import type { ColumnDef } from "@tanstack/react-table";
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { problemOf } from "../../../api/problem";
import { usePermissions } from "../../../auth/permissions";
import { DataTable } from "../../../components/DataTable";
import { Empty, Failure } from "../../../components/Failure";
import { Freshness } from "../../../components/Freshness";
import { Loading, Page } from "../../../components/Page";
import { ReasonButton } from "../../../components/Reason";
import { State } from "../../../components/State";
import { Time } from "../../../components/Time";
import { useT } from "../../../i18n";
import { compared } from "../../../state/order";
import { idOf } from "../../../state/proto";
import { wordsOf } from "../../../state/words";
import { useEngines, useServices } from "../engines";
import type { ServiceView } from "../model";
import { usePageSearch } from "../../../state/route";

/** Where a service's page is. */
export function ServiceLink({ service }: { service: ServiceView }) {
  return (
    <Link
      to="/services/$project/$collection/$service"
      params={{ project: service.project, collection: service.engine.collection, service: service.id }}
    >
      {service.id}
    </Link>
  );
}

const texts = new WeakMap<ServiceView, string>();

/** What the filter looks at, in small letters. */
function textOf(one: ServiceView): string {
  let text = texts.get(one);
  if (text === undefined) {
    text = `${one.name} ${one.cluster} ${one.version} ${one.engine.title} ${one.description}`.toLowerCase();
    texts.set(one, text);
  }
  return text;
}

/** Members that are ready, of all. */
export const readyOf = (service: ServiceView): string =>
  `${service.members.filter((member) => member.ready).length}/${service.size}`;

export function ServicesPage() {
  const t = useT();
  const navigate = useNavigate({ from: "/services" });
  const { q = "", state = "", project } = usePageSearch();
  const engines = useEngines();
  const { items, ready, link, since, error, changed, retry } = useServices();
  const may = usePermissions(
    project === undefined ? "" : `projects/${project}`,
    engines.map((engine) => engine.methods.create),
  );
  const creatable = engines.some((engine) => may(engine.methods.create).allowed !== false) || project === undefined;
  const set = (search: { q?: string; state?: string }) =>
    void navigate({ search: (before: object) => ({ ...before, ...search }), replace: true });
  // Sorted once for each picture, not for each letter of the filter.
  const all = useMemo(() => [...items.values()].sort((a, b) => compared(a.name, b.name)), [items]);
  const rows = useMemo(() => {
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    return all.filter(
      (one) =>
        (project === undefined || one.project === project) &&
        (state === "" || one.state === state) &&
        words.every((word) => textOf(one).includes(word)),
    );
  }, [all, q, state, project]);
  const columns = useMemo<ColumnDef<ServiceView>[]>(
    () => [
      {
        id: "name",
        size: 190,
        header: t("services.name"),
        accessorKey: "id",
        sortingFn: "basic",
        cell: ({ row }) => <ServiceLink service={row.original} />,
      },
      {
        id: "state",
        size: 130,
        header: t("services.state"),
        accessorKey: "state",
        cell: ({ row }) => <State group="service" value={row.original.state} title={row.original.message} />,
      },
      {
        id: "why",
        size: 280,
        header: t("services.why"),
        enableSorting: false,
        cell: ({ row }) => <Why service={row.original} />,
      },
      { id: "project", size: 110, header: t("services.project"), accessorKey: "project" },
      {
        id: "engine",
        size: 120,
        header: t("services.engine"),
        accessorFn: (one) => `${one.engine.title} ${one.version}`,
      },
      { id: "members", size: 70, header: t("services.ready"), accessorFn: readyOf },
      { id: "primary", size: 150, header: t("services.primary"), accessorKey: "primary" },
      { id: "cluster", size: 120, header: t("services.cluster"), accessorFn: (one) => idOf(one.cluster) },
      {
        id: "updated",
        size: 110,
        header: t("services.reported"),
        accessorFn: (one) => one.observed?.getTime() ?? 0,
        cell: ({ row }) => <Time at={row.original.observed} />,
      },
    ],
    [t],
  );
  return (
    <Page
      title={t("nav.services")}
      fresh={<Freshness link={link} retry={retry} {...(since && { since })} />}
      actions={
        creatable ? (
          <Button component={Link} {...{ to: "/services/new" }} size="compact-md">
            {t("services.new")}
          </Button>
        ) : (
          <ReasonButton size="compact-md" reason={t("forbidden.in", { project })}>
            {t("services.new")}
          </ReasonButton>
        )
      }
    >
      <div className="filters">
        <TextInput
          type="search"
          aria-label={t("services.filter")}
          placeholder={t("services.filter")}
          value={q}
          onChange={(event) => set({ q: event.currentTarget.value })}
        />
        <NativeSelect
          aria-label={t("services.state")}
          value={state}
          onChange={(event) => set({ state: event.currentTarget.value })}
          data={[
            { value: "", label: t("services.anyState") },
            ...wordsOf("service").map(([value, word]) => ({ value, label: t(word.text) })),
          ]}
        />
        <span className="dim" role="status">
          {t("services.count", { n: rows.length, all: items.size })}
        </span>
      </div>
      {error !== undefined && !ready ? (
        <Failure problem={problemOf(error)} retry={retry} />
      ) : !ready ? (
        <Loading />
      ) : (
        <DataTable
          label={t("nav.services")}
          rows={rows}
          columns={columns}
          rowId={(one) => one.name}
          changed={changed}
          old={(one) => link === "stale" || !one.agentConnected}
          empty={
            <Empty title={items.size === 0 ? t("services.none") : t("services.noneFound")}>
              {items.size === 0 && creatable && <Link to="/services/new">{t("services.new")}</Link>}
            </Empty>
          }
        />
      )}
    </Page>
  );
}

/** Why a service is not as it shall be, in one line. */
function Why({ service }: { service: ServiceView }) {
  const t = useT();
  if (!service.agentConnected && service.state !== "CREATING")
    return <span className="dim">{t("services.agentAway")}</span>;
  if (service.state === "READY") return null;
  const unmet = service.conditions.find((one) => !one.satisfied);
  return (
    <span className="clip" title={unmet?.reason ?? service.message}>
      {unmet?.reason ?? service.message}
    </span>
  );
}
