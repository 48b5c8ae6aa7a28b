import type { ColumnDef } from "@tanstack/react-table";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { DataTable } from "../../../components/DataTable";
import { Empty } from "../../../components/Failure";
import { Card, Facts } from "../../../components/Page";
import { ReasonButton } from "../../../components/Reason";
import { State } from "../../../components/State";
import { Predicates } from "../../../components/Steps";
import { Mono } from "../../../components/Copy";
import { Time } from "../../../components/Time";
import { useT } from "../../../i18n";
import { idOf } from "../../../state/proto";
import { bytes } from "../../../state/quantities";
import { type Takeover, takeover } from "../../../state/takeover";
import type { MemberView, ServiceView } from "../model";

/** Picture, members, conditions. */
export function Overview(props: {
  service: ServiceView;
  switchoverReason: string | undefined;
  onSwitchover: (member: string) => void;
}) {
  const t = useT();
  const { service } = props;
  const [selected, setSelected] = useState<string>();
  const member = service.members.find((one) => one.name === selected);
  const { Topology } = service.engine;
  const columns = useMemo<ColumnDef<MemberView>[]>(
    () => [
      { id: "name", header: t("member.name"), accessorKey: "name" },
      {
        id: "role",
        header: t("member.role"),
        accessorKey: "role",
        cell: ({ row }) => <State group="role" value={row.original.role} />,
      },
      {
        id: "ready",
        header: t("member.ready"),
        accessorKey: "ready",
        cell: ({ row }) => <State group="yesno" value={row.original.ready ? "YES" : "NO"} />,
      },
      {
        id: "lag",
        header: t("member.lag"),
        accessorFn: (one) => one.lag ?? -1,
        cell: ({ row }) => (row.original.lag === undefined ? "–" : bytes(row.original.lag)),
      },
      {
        id: "takeover",
        header: t("takeover.title"),
        accessorFn: (one) => takeover(one, service.refusal).able,
        cell: ({ row }) => <TakeoverText taking={takeover(row.original, service.refusal)} />,
      },
      { id: "node", header: t("member.node"), accessorKey: "node" },
      { id: "version", header: t("field.version"), accessorKey: "version" },
      {
        id: "address",
        header: t("member.address"),
        enableSorting: false,
        cell: ({ row }) => <Mono text={row.original.address} />,
      },
    ],
    [t, service.refusal],
  );
  return (
    <div className="columns">
      <div className="stack">
        <Card title={t("service.topology")}>
          {service.members.length === 0 ? (
            <Empty title={t("service.noMembers")} />
          ) : (
            <Topology
              service={service}
              selected={selected}
              onSelect={(name) => setSelected(name === selected ? undefined : name)}
            />
          )}
          {member && (
            <Chosen
              member={member}
              service={service}
              reason={props.switchoverReason}
              onSwitchover={() => props.onSwitchover(member.name)}
            />
          )}
        </Card>
        <Card title={t("service.conditions")}>
          {service.conditions.length === 0 ? (
            <Empty title={t("service.noConditions")} />
          ) : (
            <Predicates predicates={service.conditions} />
          )}
        </Card>
      </div>
      <Card title={t("service.facts")}>
        <Facts
          facts={[
            [
              t("services.project"),
              <Link key="p" to="/projects/$id" params={{ id: service.project }}>
                {service.project}
              </Link>,
            ],
            [
              t("services.cluster"),
              <Link key="c" to="/clusters/$cluster" params={{ cluster: idOf(service.cluster) }}>
                {idOf(service.cluster)}
              </Link>,
            ],
            [t("services.engine"), `${service.engine.title} ${service.version}`],
            [t("field.members"), service.size],
            [t("topology.epochName"), String(service.epoch)],
            [t("service.created"), <Time key="t" at={service.created} />],
            [t("services.reported"), <Time key="r" at={service.observed} />],
            ["UID", <Mono key="u" text={service.uid} what="UID" />],
            [t("field.description"), service.description],
          ]}
        />
      </Card>
      <div className="wide">
        <Card title={t("service.members")}>
          <DataTable
            label={t("service.members")}
            rows={service.members}
            columns={columns}
            rowId={(one) => one.name}
            empty={<Empty title={t("service.noMembers")} />}
          />
        </Card>
      </div>
    </div>
  );
}

/** What is known of a chosen member, and what can be done with it. */
function Chosen(props: {
  member: MemberView;
  service: ServiceView;
  reason: string | undefined;
  onSwitchover: () => void;
}) {
  const t = useT();
  const { member, service } = props;
  const taking = takeover(member, service.refusal);
  const why = t(taking.text, taking.values);
  const able = taking.able === "yes" ? props.reason : [why, ...taking.facts].join(" ");
  return (
    <div className="chosen" role="status">
      <strong>{member.name}</strong> <TakeoverText taking={taking} />
      <ReasonButton
        size="compact-sm"
        reason={member.name === service.primary ? t("member.isPrimary") : able}
        onClick={props.onSwitchover}
      >
        {t("member.makePrimary")}
      </ReasonButton>
    </div>
  );
}

/** Whether a member may take over, and why not. */
function TakeoverText({ taking }: { taking: Takeover }) {
  const t = useT();
  return (
    <span data-takeover={taking.able}>
      {t(taking.text, taking.values)}
      {taking.facts.map((fact) => (
        <span key={fact} className="dim">
          {" "}
          {fact}
        </span>
      ))}
    </span>
  );
}
