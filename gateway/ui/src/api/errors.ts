import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb";

/** An error as a page shows it. */
export interface Explained {
  code: Code;
  /** What the server says, in words. */
  message: string;
  /** UPPER_SNAKE; empty when the error came from no module. */
  reason: string;
  /** By path of the field, in proto names. */
  fields: Map<string, string>;
  /** Predicates that do not hold. */
  unmet: { name: string; subject: string; reason: string }[];
  /** Milliseconds after which trying again makes sense. */
  retryAfter?: number;
}

/** Reads what an error carries. */
export function explain(error: unknown): Explained {
  const known = ConnectError.from(error);
  const [info] = known.findDetails(ErrorInfoSchema);
  const fields = new Map<string, string>();
  for (const bad of known.findDetails(BadRequestSchema)) {
    for (const { field, description } of bad.fieldViolations) {
      const before = fields.get(field);
      fields.set(field, before === undefined ? description : `${before}; ${description}`);
    }
  }
  const unmet = [
    ...known
      .findDetails(PreconditionFailureSchema)
      .flatMap((found) =>
        found.violations.map((one) => ({ name: one.type, subject: one.subject, reason: one.description })),
      ),
    ...known
      .findDetails(QuotaFailureSchema)
      .flatMap((found) =>
        found.violations.map((one) => ({ name: "QUOTA", subject: one.subject, reason: one.description })),
      ),
  ];
  const delay = known.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    code: known.code,
    message: known.rawMessage,
    reason: info?.reason ?? "",
    fields,
    unmet,
    ...(delay && { retryAfter: Number(delay.seconds) * 1000 + delay.nanos / 1e6 }),
  };
}

/** Whether the same call may succeed later without anybody doing anything. */
export function isTransient(error: unknown): boolean {
  const { code } = ConnectError.from(error);
  return code === Code.Unavailable || code === Code.DeadlineExceeded || code === Code.Unknown || code === Code.Aborted;
}
