import type { DescEnum, DescMessage, DescMethod } from "@bufbuild/protobuf";
import type { ComponentType } from "react";
import type { Operation } from "../../api/gen/upm/operation/v1/operation_pb";
import type { Source } from "../../api/watch";
import type { Values } from "../../components/MessageForm";

/** A member as pages show it. */
export interface MemberView {
  name: string;
  /** Name of the API's enum value. */
  role: string;
  address: string;
  version: string;
  ready: boolean;
  linkUp: boolean;
  /** Bytes behind the primary; undefined when unknown. */
  lag?: number;
  node: string;
  message: string;
}

/** An election that was refused, and the way out of it. */
export interface RefusalView {
  /** Member that would lead; empty when no member with data can be asked. */
  candidate: string;
  /** What would be lost then, for people. */
  loss: string;
  /** Names exactly this candidate and this loss. */
  lossId: string;
  /** Each of these facts would make an election safe. */
  missing: { name: string; satisfied: boolean; reason: string }[];
}

/** A service of any engine as pages show it. */
export interface ServiceView {
  /** `projects/{project}/{collection}/{service}`. */
  name: string;
  id: string;
  /** Id of the project. */
  project: string;
  engine: Engine;
  uid: string;
  etag: string;
  state: string;
  message: string;
  cluster: string;
  version: string;
  size: number;
  members: MemberView[];
  primary: string;
  epoch: bigint;
  readWrite: string;
  readOnly: string;
  conditions: { name: string; satisfied: boolean; reason: string }[];
  /** Name of the operation that goes on; empty when there is none. */
  operation: string;
  /** Set while no primary can be elected without losing confirmed writes. */
  refusal?: RefusalView;
  agentConnected: boolean;
  observed?: Date;
  created?: Date;
  updated?: Date;
  labels: Record<string, string>;
  description: string;
  /** Number of the enum's value. */
  deletionPolicy: number;
  parameters: Record<string, string>;
  /** What the user wants, as the form has it. */
  spec: Values;
}

/** What every mutation takes. */
export interface Once {
  validateOnly: boolean;
  requestId: string;
}

/** A new service. */
export interface Wish {
  project: string;
  id: string;
  spec: Values;
  description: string;
  deletionPolicy: number;
  retainedData: number;
}

/** How to connect. */
export interface ConnectionView {
  readWrite: string;
  readOnly: string;
  user: string;
  command: string;
  ca: string;
  secret: string;
}

/** What pages know of an engine: its API, and the picture that descriptors cannot say. */
export interface Engine {
  title: string;
  /** In resource names. */
  collection: string;
  /** Of `operations/{module}`. */
  module: string;
  /** Type of its packages in the catalogue. */
  software: string;
  comments: Record<string, string>;
  spec: DescMessage;
  /** Name of the resource's field in requests, in front of paths of violations. */
  resourceField: string;
  /** Name of the id's field in the request that creates. */
  idField: string;
  deletionPolicy: DescEnum;
  retainedData: DescEnum;
  /** A new spec with values to begin with. */
  draft: () => Values;
  methods: Record<
    | "list"
    | "create"
    | "update"
    | "delete"
    | "restart"
    | "switchover"
    | "failover"
    | "scale"
    | "connection"
    | "password",
    DescMethod
  >;
  watch: (engine: Engine) => Source<ServiceView>;
  create: (wish: Wish, once: Once, signal?: AbortSignal) => Promise<Operation>;
  update: (service: ServiceView, news: { description: string; deletionPolicy: number }) => Promise<unknown>;
  delete: (service: ServiceView, policy: number, once: Once, signal?: AbortSignal) => Promise<Operation>;
  restart: (service: ServiceView, once: Once, signal?: AbortSignal) => Promise<Operation>;
  switchover: (service: ServiceView, target: string, once: Once, signal?: AbortSignal) => Promise<Operation>;
  /** Accepts exactly the loss of this id. */
  failover: (service: ServiceView, lossId: string, once: Once, signal?: AbortSignal) => Promise<Operation>;
  scale: (service: ServiceView, members: number, once: Once, signal?: AbortSignal) => Promise<Operation>;
  connection: (name: string, signal?: AbortSignal) => Promise<ConnectionView>;
  password: (name: string) => Promise<string>;
  Topology: ComponentType<{ service: ServiceView; selected: string | undefined; onSelect: (member: string) => void }>;
}
