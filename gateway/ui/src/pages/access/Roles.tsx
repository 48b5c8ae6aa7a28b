import { Fragment } from "react";
import { AuthService, PolicyService, RoleScope, RoleService } from "../../api/gen/upm/auth/v1/auth_pb";
import { AgentAdminService } from "../../api/gen/upm/hub/v1/ledger_service_pb";
import { OperatorLogService } from "../../api/gen/upm/operatorlog/v1/operatorlog_pb";
import {
  ClusterService,
  NodeService,
  ProjectService,
  SoftwareService,
  StorageClassService,
} from "../../api/gen/upm/resource/v1/resource_pb";
import { UserService } from "../../api/gen/upm/user/v1/user_pb";
import { permissionOf } from "../../api/method";
import { problemOf } from "../../api/problem";
import { Failure } from "../../components/Failure";
import { Icon } from "../../components/Icon";
import { Loading } from "../../components/Page";
import { useT } from "../../i18n";
import { byResource, covers } from "../../state/matrix";
import { idOf } from "../../state/proto";
import { useEngines } from "../services/engines";
import { useRoles } from "../../auth/lists";

const SERVICES = [
  AuthService,
  RoleService,
  PolicyService,
  AgentAdminService,
  OperatorLogService,
  ClusterService,
  NodeService,
  ProjectService,
  SoftwareService,
  StorageClassService,
  UserService,
];

/** Which role has which permission; the permissions are those that the API's methods ask for. */
export function Roles() {
  const t = useT();
  const engines = useEngines();
  const { data, error, refetch } = useRoles();
  if (error) return <Failure problem={problemOf(error)} retry={() => void refetch()} />;
  if (!data) return <Loading />;
  const methods = [
    ...SERVICES.flatMap((service) => service.methods),
    ...engines.flatMap((engine) => Object.values(engine.methods)),
  ];
  const permissions = methods.map(permissionOf).filter((permission) => permission !== "");
  const scopes: Record<RoleScope, string> = {
    [RoleScope.ROLE_SCOPE_UNSPECIFIED]: t("access.anywhere"),
    [RoleScope.PLATFORM]: t("access.platform"),
    [RoleScope.PROJECT]: t("services.project"),
  };
  return (
    <div className="table-frame" role="group" aria-label={t("access.roles")} tabIndex={0}>
      <table className="data matrix">
        <thead>
          <tr>
            <th scope="col">{t("access.permission")}</th>
            {data.roles.map((role) => (
              <th key={role.name} scope="col" title={role.description}>
                {idOf(role.name)}
                <div className="dim">{scopes[role.scope]}</div>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {byResource(permissions).map(([resource, own]) => (
            <Fragment key={resource}>
              <tr className="group-row">
                <th scope="rowgroup" colSpan={data.roles.length + 1}>
                  {resource}
                </th>
              </tr>
              {own.map((permission) => (
                <tr key={permission}>
                  <th scope="row">
                    <code>{permission.slice(resource.length + 1)}</code>
                  </th>
                  {data.roles.map((role) => {
                    const has = role.permissions.some((pattern) => covers(pattern, permission));
                    return (
                      <td key={role.name} data-has={has}>
                        {has ? (
                          <>
                            <Icon name="good" size={13} />
                            <span className="visually-hidden">{t("word.yes")}</span>
                          </>
                        ) : (
                          <span className="visually-hidden">{t("word.no")}</span>
                        )}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </Fragment>
          ))}
        </tbody>
      </table>
    </div>
  );
}
