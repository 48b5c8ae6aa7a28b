import { Code } from "@connectrpc/connect";
import type { Problem } from "../components/Failure";
import { explain } from "./errors";

/** An error as a component shows it. */
export function problemOf(error: unknown): Problem {
  const { code, message, reason, unmet } = explain(error);
  const kind =
    code === Code.PermissionDenied
      ? "forbidden"
      : code === Code.NotFound
        ? "missing"
        : code === Code.Unavailable || code === Code.DeadlineExceeded
          ? "away"
          : "other";
  return { kind, message, reason, unmet };
}
