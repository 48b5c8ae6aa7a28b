import { createClient } from "@connectrpc/connect";
import { useSyncExternalStore } from "react";
import { AuthService, PolicyService, RoleService } from "../api/gen/upm/auth/v1/auth_pb";
import { AgentAdminService } from "../api/gen/upm/hub/v1/ledger_service_pb";
import { OperationService } from "../api/gen/upm/operation/v1/operation_pb";
import { OperatorLogService } from "../api/gen/upm/operatorlog/v1/operatorlog_pb";
import {
  ClusterService,
  NodeService,
  ProjectService,
  SoftwareService,
  StorageClassService,
} from "../api/gen/upm/resource/v1/resource_pb";
import { UserService } from "../api/gen/upm/user/v1/user_pb";
import { authorizedTransport, publicTransport } from "../api/transport";
import { browser } from "./browser";
import { type Phase, Session } from "./session";

/** This tab's session. */
export const session = new Session(browser());

/** With this tab's token. */
export const transport = authorizedTransport(session);

/** What everybody may call. */
export const publicAuth = createClient(AuthService, publicTransport);

/** The API's clients. */
export const api = {
  auth: createClient(AuthService, transport),
  roles: createClient(RoleService, transport),
  policy: createClient(PolicyService, transport),
  users: createClient(UserService, transport),
  projects: createClient(ProjectService, transport),
  clusters: createClient(ClusterService, transport),
  nodes: createClient(NodeService, transport),
  storageClasses: createClient(StorageClassService, transport),
  software: createClient(SoftwareService, transport),
  agents: createClient(AgentAdminService, transport),
  operations: createClient(OperationService, transport),
  log: createClient(OperatorLogService, transport),
};

/** Where the session is. */
export function usePhase(): Phase {
  return useSyncExternalStore(session.subscribe, session.get);
}
