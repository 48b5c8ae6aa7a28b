import type { DescMethod } from "@bufbuild/protobuf";
import { useQuery } from "@tanstack/react-query";
import { permissionOf } from "../api/method";
import { api } from "./current";

/** Whether the caller may call a method: undefined while it is not known. */
export type May = (method: DescMethod) => { allowed: boolean | undefined; permission: string };

/** Asks once for all methods of a view. `project` is `projects/{project}`, empty for the platform. */
export function usePermissions(project: string, methods: DescMethod[]): May {
  const wanted = [...new Set(methods.map(permissionOf).filter((permission) => permission !== ""))].sort();
  const { data } = useQuery({
    queryKey: ["permissions", project, wanted],
    queryFn: ({ signal }) => api.policy.testPermissions({ project, permissions: wanted }, { signal }),
    enabled: wanted.length > 0,
    staleTime: 60_000,
  });
  const has = data && new Set(data.permissions);
  return (method) => {
    const permission = permissionOf(method);
    return { permission, allowed: permission === "" ? true : has?.has(permission) };
  };
}
