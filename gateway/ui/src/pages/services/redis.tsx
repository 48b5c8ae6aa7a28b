import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import comments from "../../api/gen/comments/upm.redis.v1.json";
import {
  type DeletionPolicy,
  DeletionPolicySchema,
  MemberRole,
  type RedisMember,
  type RedisService,
  RedisServices,
  RedisServiceSchema,
  RedisSpecSchema,
  type RedisSpec,
  type Refusal,
  type RetainedData,
  RetainedDataSchema,
  ServiceState,
  StorageSchema,
} from "../../api/gen/upm/redis/v1/redis_pb";
import type { Change } from "../../api/watch";
import { transport } from "../../auth/current";
import type { Values } from "../../components/MessageForm";
import { Topology } from "../../components/Topology";
import { useT } from "../../i18n";
import { date, idOf, projectOf } from "../../state/proto";
import { bytes } from "../../state/quantities";
import { takeover } from "../../state/takeover";
import type { Tone } from "../../state/words";
import { wordOf } from "../../state/words";
import type { Engine, MemberView, RefusalView, ServiceView } from "./model";

const client = createClient(RedisServices, transport);
const { method } = RedisServices;

function member(one: RedisMember): MemberView {
  return {
    name: one.name,
    role: MemberRole[one.role],
    address: one.address,
    version: one.version,
    ready: one.ready,
    linkUp: one.linkUp,
    ...(one.lagBytes >= 0n && { lag: Number(one.lagBytes) }),
    node: one.node,
    message: one.message,
  };
}

function refusal(one: Refusal): RefusalView {
  const { candidate, loss, lossId, missing } = one;
  return {
    candidate,
    loss,
    lossId,
    missing: missing.map(({ name, satisfied, reason }) => ({ name, satisfied, reason })),
  };
}

/** A service as pages show it. */
export function view(service: RedisService, engine: Engine): ServiceView {
  const { spec, status } = service;
  const observed = date(status?.observeTime);
  const created = date(service.createTime);
  const updated = date(service.updateTime);
  return {
    name: service.name,
    id: idOf(service.name),
    project: idOf(projectOf(service.name)),
    engine,
    uid: service.uid,
    etag: service.etag,
    state: ServiceState[status?.state ?? ServiceState.SERVICE_STATE_UNSPECIFIED],
    message: status?.message ?? "",
    cluster: spec?.cluster ?? "",
    version: spec?.version ?? "",
    size: spec?.members ?? 0,
    members: (status?.members ?? []).map(member),
    primary: status?.primary ?? "",
    epoch: status?.epoch ?? 0n,
    readWrite: status?.readwriteAddress ?? "",
    readOnly: status?.readonlyAddress ?? "",
    conditions: status?.conditions.map(({ name, satisfied, reason }) => ({ name, satisfied, reason })) ?? [],
    operation: status?.operation ?? "",
    ...(status?.refusal && { refusal: refusal(status.refusal) }),
    agentConnected: status?.agentConnected ?? false,
    ...(observed && { observed }),
    ...(created && { created }),
    ...(updated && { updated }),
    labels: service.labels,
    description: service.description,
    deletionPolicy: service.deletionPolicy,
    parameters: spec?.parameters ?? {},
    spec: spec ?? create(RedisSpecSchema),
  };
}

async function* changes(engine: Engine, resumeToken: string, signal: AbortSignal): AsyncIterable<Change<ServiceView>> {
  for await (const { event } of client.watchRedisServices({ parent: "projects/-", resumeToken }, { signal })) {
    switch (event.case) {
      case "redisService":
        yield { kind: "put", key: event.value.name, value: view(event.value, engine) };
        break;
      case "deleted":
        yield { kind: "delete", key: event.value };
        break;
      case "bookmark":
        yield { kind: "bookmark", token: event.value };
        break;
      case undefined:
        break;
    }
  }
}

/** Whether a member may take over, in few words. */
const SHORT = {
  leads: "takeover.shortLeads",
  yes: "takeover.shortYes",
  loss: "takeover.shortLoss",
  no: "takeover.shortNo",
} as const;

/** One primary, and replicas that follow it. */
function Picture(props: { service: ServiceView; selected: string | undefined; onSelect: (member: string) => void }) {
  const t = useT();
  const { members, primary, epoch, refusal } = props.service;
  const isPrimary = (one: MemberView) => one.role === "PRIMARY";
  const tone = (one: MemberView): Tone => (!one.ready ? "bad" : isPrimary(one) || one.linkUp ? "good" : "warn");
  return (
    <Topology
      label={t("topology.label", { primary: primary === "" ? "–" : primary, epoch: String(epoch) })}
      selected={props.selected}
      onSelect={props.onSelect}
      nodes={members.map((one) => ({
        id: one.name,
        role:
          t(wordOf("role", one.role).text) +
          (isPrimary(one) ? ` · ${t("topology.epoch", { epoch: String(epoch) })}` : ""),
        detail: one.ready ? one.node : t("member.notReady"),
        note: t(SHORT[takeover(one, refusal).able]),
        tone: tone(one),
        row: isPrimary(one) ? 0 : 1,
      }))}
      edges={members
        .filter((one) => one.role === "REPLICA" && primary !== "")
        .map((one) => ({
          from: primary,
          to: one.name,
          up: one.linkUp,
          label: !one.linkUp
            ? t("topology.down")
            : one.lag === undefined
              ? t("topology.lagUnknown")
              : t("topology.lag", { lag: bytes(one.lag) }),
        }))}
    />
  );
}

const spec = (values: Values): RedisSpec => create(RedisSpecSchema, values as MessageInitShape<typeof RedisSpecSchema>);

export const engine: Engine = {
  title: "Redis",
  collection: "redisServices",
  module: "redis",
  software: "redis",
  comments,
  spec: RedisSpecSchema,
  resourceField: "redis_service",
  idField: "redis_service_id",
  deletionPolicy: DeletionPolicySchema,
  retainedData: RetainedDataSchema,
  draft: () =>
    create(RedisSpecSchema, {
      members: 3,
      cpu: "500m",
      memory: "256Mi",
      storage: create(StorageSchema, { size: "1Gi" }),
    }),
  methods: {
    list: method.listRedisServices,
    create: method.createRedisService,
    update: method.updateRedisService,
    delete: method.deleteRedisService,
    restart: method.restartRedisService,
    switchover: method.switchoverRedisService,
    failover: method.failoverRedisService,
    scale: method.horizontalScaleRedisService,
    connection: method.getConnection,
    password: method.getPassword,
  },
  watch: (own) => (token, signal) => changes(own, token, signal),
  create: (wish, once, signal) =>
    client.createRedisService(
      {
        parent: wish.project,
        redisServiceId: wish.id,
        redisService: create(RedisServiceSchema, {
          spec: spec(wish.spec),
          description: wish.description,
          deletionPolicy: wish.deletionPolicy as DeletionPolicy,
        }),
        retainedData: wish.retainedData as RetainedData,
        ...once,
      },
      { ...(signal && { signal }) },
    ),
  update: (service, news) =>
    client.updateRedisService({
      redisService: create(RedisServiceSchema, { name: service.name, etag: service.etag, ...news }),
      updateMask: { paths: ["description", "deletion_policy"] },
    }),
  delete: ({ name, etag }, number, once, signal) =>
    // The plan is for whatever the service is now; the deletion itself only for what the plan was shown of.
    client.deleteRedisService(
      { name, policy: number as DeletionPolicy, etag: once.validateOnly ? "" : etag, ...once },
      { ...(signal && { signal }) },
    ),
  restart: ({ name }, once, signal) => client.restartRedisService({ name, ...once }, { ...(signal && { signal }) }),
  switchover: ({ name, epoch }, target, once, signal) =>
    client.switchoverRedisService({ name, target, expectedEpoch: epoch, ...once }, { ...(signal && { signal }) }),
  failover: ({ name, epoch }, acceptLoss, once, signal) =>
    client.failoverRedisService({ name, acceptLoss, expectedEpoch: epoch, ...once }, { ...(signal && { signal }) }),
  scale: ({ name }, members, once, signal) =>
    client.horizontalScaleRedisService({ name, members, ...once }, { ...(signal && { signal }) }),
  connection: async (name, signal) => {
    const found = await client.getConnection({ name }, { ...(signal && { signal }) });
    return {
      readWrite: found.readwriteAddress,
      readOnly: found.readonlyAddress,
      user: found.user,
      command: found.command,
      ca: found.caPem,
      secret: found.passwordSecret,
    };
  },
  password: async (name) => (await client.getPassword({ name })).password,
  Topology: Picture,
};
