import { type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import { Access, method as policy } from "./gen/upm/policy/v1/policy_pb";

/** The permission that a method asks for; empty when a token is enough. */
export function permissionOf(method: DescMethod): string {
  if (!hasOption(method, policy)) return "";
  const told = getOption(method, policy);
  return told.access === Access.ACCESS_UNSPECIFIED ? told.permission : "";
}

/** The longest time a call of the method may take, in milliseconds; undefined for streams without a limit. */
export function timeoutOf(method: DescMethod): number | undefined {
  if (!hasOption(method, policy)) return undefined;
  const timeout = getOption(method, policy).timeout;
  return timeout && Number(timeout.seconds) * 1000 + timeout.nanos / 1e6;
}
