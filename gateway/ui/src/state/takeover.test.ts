import { describe, expect, it } from "vitest";
import { type Candidate, takeover } from "./takeover";

const replica: Candidate = { name: "a-1", role: "REPLICA", ready: true, linkUp: true, lag: 0, message: "" };
const refused = { candidate: "a-1", loss: "10 bytes", missing: [{ reason: "a-2: does not answer" }] };
const of = (news: Partial<Candidate>, refusal?: typeof refused) => takeover({ ...replica, ...news }, refusal);

describe("who may take over", () => {
  it("is a linked replica, at once or when it has the rest", () => {
    expect(of({})).toEqual({ able: "yes", text: "takeover.yes", facts: [] });
    expect(of({ lag: 2048 })).toMatchObject({ able: "yes", values: { lag: "2 KiB" } });
  });
  it("is nobody who is away, parked or not linked", () => {
    expect(of({ ready: false, message: "ImagePullBackOff" })).toMatchObject({
      able: "no",
      text: "takeover.notReady",
      facts: ["ImagePullBackOff"],
    });
    expect(of({ role: "PARKED" }).able).toBe("no");
    expect(of({ role: "MEMBER_ROLE_UNSPECIFIED" }).able).toBe("no");
    expect(of({ linkUp: false }).text).toBe("takeover.unlinked");
  });
  it("says what a refused election misses of each", () => {
    expect(of({}, refused)).toMatchObject({ able: "loss", values: { loss: "10 bytes" } });
    expect(of({ name: "a-2" }, refused)).toEqual({
      able: "no",
      text: "takeover.missing",
      facts: ["does not answer"],
    });
    expect(of({ name: "a-3" }, refused).text).toBe("takeover.refused");
  });
  it("is not whoever leads, unless its election was refused", () => {
    expect(of({ role: "PRIMARY" }).able).toBe("leads");
    expect(of({ name: "a-0", role: "PRIMARY" }, refused).able).toBe("no");
  });
});
