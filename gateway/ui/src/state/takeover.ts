import type { Key, Values } from "../i18n";
import { bytes } from "./quantities";

/** What is known of a member that may have to lead. */
export interface Candidate {
  name: string;
  /** Name of the API's enum value. */
  role: string;
  ready: boolean;
  linkUp: boolean;
  /** Bytes behind the primary; undefined when unknown. */
  lag?: number;
  message: string;
}

/** A refused election, as far as one member is concerned. */
export interface Refused {
  candidate: string;
  loss: string;
  missing: { reason: string }[];
}

/** Whether a member may become the primary, and the reason; the server decides in any case. */
export interface Takeover {
  able: "leads" | "yes" | "loss" | "no";
  text: Key;
  values?: Values;
  /** What the cluster says of it, in its own words. */
  facts: string[];
}

/** Who may take over and why not, from what was reported last. */
export function takeover(member: Candidate, refusal: Refused | undefined): Takeover {
  const told = member.message === "" ? [] : [member.message];
  if (member.role === "PRIMARY" && !refusal) return { able: "leads", text: "takeover.leads", facts: [] };
  if (refusal?.candidate === member.name) {
    return { able: "loss", text: "takeover.loss", values: { loss: refusal.loss }, facts: told };
  }
  // A fact that is about a member begins with its name.
  const own = `${member.name}: `;
  const missing = (refusal?.missing ?? [])
    .filter(({ reason }) => reason.startsWith(own))
    .map(({ reason }) => reason.slice(own.length));
  if (missing.length > 0) return { able: "no", text: "takeover.missing", facts: missing };
  if (!member.ready) return { able: "no", text: "takeover.notReady", facts: told };
  if (member.role === "PARKED") return { able: "no", text: "takeover.parked", facts: told };
  if (member.role !== "REPLICA") return { able: "no", text: "takeover.unknown", facts: told };
  if (!member.linkUp) return { able: "no", text: "takeover.unlinked", facts: told };
  if (refusal) return { able: "no", text: "takeover.refused", facts: told };
  if (member.lag === undefined) return { able: "yes", text: "takeover.lagUnknown", facts: told };
  if (member.lag > 0) return { able: "yes", text: "takeover.behind", values: { lag: bytes(member.lag) }, facts: told };
  return { able: "yes", text: "takeover.yes", facts: told };
}
