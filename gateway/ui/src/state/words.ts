import type { Key } from "../i18n";

/** How a state is to be taken; each tone has one colour and one shape. */
export type Tone = "good" | "busy" | "warn" | "bad" | "idle";

/** A state for people. */
export interface Word {
  text: Key;
  tone: Tone;
}

const UNKNOWN: Word = { text: "state.unknown", tone: "idle" };

/** By the name of the API's enum value, without a prefix. One table for all pages. */
const WORDS: Record<string, Record<string, Word>> = {
  service: {
    CREATING: { text: "state.creating", tone: "busy" },
    READY: { text: "state.ready", tone: "good" },
    DEGRADED: { text: "state.degraded", tone: "warn" },
    UNAVAILABLE: { text: "state.unavailable", tone: "bad" },
    DELETING: { text: "state.deleting", tone: "busy" },
    FAILED: { text: "state.failed", tone: "bad" },
  },
  operation: {
    PENDING: { text: "state.pending", tone: "idle" },
    AWAITING_APPROVAL: { text: "state.awaitingApproval", tone: "warn" },
    RUNNING: { text: "state.running", tone: "busy" },
    CANCELLING: { text: "state.cancelling", tone: "busy" },
    CANCELLED: { text: "state.cancelled", tone: "idle" },
    ROLLED_BACK: { text: "state.rolledBack", tone: "warn" },
    FAILED: { text: "state.failed", tone: "bad" },
    SUCCEEDED: { text: "state.succeeded", tone: "good" },
  },
  step: {
    STEP_PENDING: { text: "state.pending", tone: "idle" },
    STEP_RUNNING: { text: "state.running", tone: "busy" },
    STEP_DONE: { text: "state.done", tone: "good" },
    STEP_FAILED: { text: "state.failed", tone: "bad" },
    STEP_SKIPPED: { text: "state.skipped", tone: "idle" },
    STEP_UNDONE: { text: "state.undone", tone: "warn" },
  },
  cluster: {
    AWAITING_AGENT: { text: "state.awaitingAgent", tone: "idle" },
    AWAITING_APPROVAL: { text: "state.awaitingApproval", tone: "warn" },
    HEALTHY: { text: "state.healthy", tone: "good" },
    UNHEALTHY: { text: "state.unhealthy", tone: "bad" },
    UNREACHABLE: { text: "state.unreachable", tone: "bad" },
    REVOKED: { text: "state.revoked", tone: "bad" },
  },
  agent: {
    INVITED: { text: "state.invited", tone: "idle" },
    AWAITING_APPROVAL: { text: "state.awaitingApproval", tone: "warn" },
    CONNECTED: { text: "state.connected", tone: "good" },
    DISCONNECTED: { text: "state.disconnected", tone: "bad" },
    REVOKED: { text: "state.revoked", tone: "bad" },
  },
  intent: {
    DIRTY: { text: "state.notSent", tone: "idle" },
    IN_FLIGHT: { text: "state.sent", tone: "busy" },
    RECEIVED: { text: "state.received", tone: "busy" },
    SETTLED: { text: "state.settled", tone: "good" },
    TRANSIENT_FAIL: { text: "state.retrying", tone: "warn" },
    LATCHED: { text: "state.latched", tone: "bad" },
  },
  role: {
    PRIMARY: { text: "role.primary", tone: "good" },
    REPLICA: { text: "role.replica", tone: "idle" },
    PARKED: { text: "role.parked", tone: "warn" },
  },
  yesno: {
    YES: { text: "word.yes", tone: "good" },
    NO: { text: "word.no", tone: "bad" },
  },
};

/** The word of an enum's value. A value that a newer server sends is shown as unknown. */
export function wordOf(group: string, value: string): Word {
  return WORDS[group]?.[value] ?? UNKNOWN;
}

/** All words of a group, for filters. */
export function wordsOf(group: string): [string, Word][] {
  return Object.entries(WORDS[group] ?? {});
}

/** States of operations that go on. */
export const ACTIVE_OPERATIONS: ReadonlySet<string> = new Set([
  "PENDING",
  "AWAITING_APPROVAL",
  "RUNNING",
  "CANCELLING",
]);
