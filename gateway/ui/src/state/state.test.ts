import { describe, expect, it } from "vitest";
import { place } from "../components/Topology";
import { logFilter, operationFilter } from "./filter";
import { differences, pretty } from "./diff";
import { byResource, covers } from "./matrix";
import { matching, type ParameterView, range, setParameter } from "./parameters";
import { idOf, projectOf, serviceParts } from "./proto";
import { bytes, cpus, quantity } from "./quantities";
import { found } from "./search";
import { relative, span } from "./times";
import { wordOf } from "./words";

describe("quantities", () => {
  it("are shown in the largest unit that fits", () => {
    expect([bytes(0), bytes(1023), bytes(1536), bytes(25_125_000_000)]).toEqual([
      "0 B",
      "1023 B",
      "1.5 KiB",
      "23.4 GiB",
    ]);
    expect([cpus(500), cpus(2000), cpus(1500), cpus(15_500)]).toEqual(["500m", "2", "1500m", "15.5"]);
  });
  it("are read as Kubernetes reads them", () => {
    expect([quantity("500m"), quantity("1Gi"), quantity("2"), quantity("1.5k")]).toEqual([0.5, 2 ** 30, 2, 1500]);
    expect([quantity("1GiB"), quantity("-1"), quantity("")]).toEqual([undefined, undefined, undefined]);
  });
});

describe("times", () => {
  it("say spans in two units at most", () => {
    expect([span(300), span(1_240), span(33_000), span(200_000), span(7_500_000)]).toEqual([
      "300 ms",
      "1.2 s",
      "33 s",
      "3 min 20 s",
      "2 h 5 min",
    ]);
  });
  it("say how long ago", () => {
    const now = new Date("2026-01-01T12:00:00Z");
    expect(relative(new Date("2026-01-01T11:57:00Z"), now, "en")).toBe("3 min. ago");
    expect(relative(new Date("2026-01-01T12:00:30Z"), now, "en")).toBe("in 30 sec.");
  });
});

describe("names", () => {
  it("are taken apart", () => {
    expect(serviceParts("projects/p/redisServices/s")).toEqual({
      project: "p",
      collection: "redisServices",
      service: "s",
    });
    expect([serviceParts("projects/p"), serviceParts("clusters/a/b/c")]).toEqual([undefined, undefined]);
    expect([idOf("users/a"), projectOf("projects/p/x/y"), projectOf("clusters/c")]).toEqual(["a", "projects/p", ""]);
  });
});

describe("the matrix of permissions", () => {
  it("knows patterns", () => {
    expect(covers("redis.*.list", "redis.services.list")).toBe(true);
    expect(covers("*.*.*", "redis.services.list")).toBe(true);
    expect(covers("redis.services.get", "redis.services.list")).toBe(false);
    expect(covers("redis.*", "redis.services.list")).toBe(false);
  });
  it("groups by resource, each permission once", () => {
    expect(byResource(["b.x.get", "a.x.list", "a.x.get", "a.x.get"])).toEqual([
      ["a.x", ["a.x.get", "a.x.list"]],
      ["b.x", ["b.x.get"]],
    ]);
  });
});

describe("differences", () => {
  it("are found at any depth", () => {
    expect(differences('{"spec":{"members":{"before":3,"after":4}},"volumes":"Retain"}')).toEqual([
      { path: "spec.members", before: "3", after: "4" },
      { path: "volumes", before: "", after: "Retain" },
    ]);
  });
  it("show what was cut as it is", () => {
    expect(differences('{"a": ')).toEqual([{ path: "", before: "", after: '{"a": ' }]);
    expect([differences(""), pretty('{"a":1}'), pretty("<b>")]).toEqual([[], '{\n  "a": 1\n}', "<b>"]);
  });
});

describe("parameters", () => {
  const one: ParameterView = {
    key: "maxmemory-policy",
    type: "Enumeration",
    dynamic: true,
    minimum: "",
    maximum: "",
    values: ["noeviction", "allkeys-lru"],
    defaultValue: "noeviction",
    description: "What is removed when memory is full.",
  };
  it("are found by name and description", () => {
    expect(matching([one], "memory full")).toEqual([one]);
    expect(matching([one], "disk")).toEqual([]);
  });
  it("are not set to their default", () => {
    expect(setParameter({}, one, "allkeys-lru")).toEqual({ "maxmemory-policy": "allkeys-lru" });
    expect(setParameter({ "maxmemory-policy": "allkeys-lru", a: "1" }, one, "noeviction")).toEqual({ a: "1" });
  });
  it("say their range", () => {
    expect(range({ ...one, minimum: "1", maximum: "10" })).toBe("1 … 10");
    expect([range({ ...one, minimum: "1" }), range({ ...one, maximum: "9" }), range(one)]).toEqual(["≥ 1", "≤ 9", ""]);
  });
});

describe("search", () => {
  it("puts what begins with it first", () => {
    const targets = ["a-demo", "demo-long", "demo"].map((text) => ({ to: text, text, more: "p" }));
    expect(found(targets, "demo").map((one) => one.text)).toEqual(["demo", "demo-long", "a-demo"]);
    expect(found(targets, "demo x")).toEqual([]);
  });
});

describe("states", () => {
  it("of a newer server are shown as unknown", () => {
    expect(wordOf("service", "MELTING").text).toBe("state.unknown");
    expect(wordOf("service", "READY").tone).toBe("good");
  });
});

describe("the topology", () => {
  it("puts rows in the middle, one under the other", () => {
    const node = (id: string, row: number) => ({ id, row, role: "", detail: "", note: "", tone: "good" as const });
    const { at, width } = place([node("a", 0), node("b", 1), node("c", 1)]);
    const [a, b, c] = ["a", "b", "c"].map((id) => at.get(id));
    expect(a && b && c && (b.x + c.x) / 2).toBe(a?.x);
    expect(b?.y).toBe(c?.y);
    expect((a?.y ?? 0) < (b?.y ?? 0) && width > 0).toBe(true);
  });
});

describe("the filter of the log", () => {
  it("joins what was typed and the times", () => {
    const since = new Date("2026-01-31T12:00:00Z");
    const local = new Date(since.getTime() - since.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
    expect(logFilter({ filter: "code!=0", since: local })).toBe('code!=0 AND event_time>="2026-01-31T12:00:00.000Z"');
    expect([logFilter({}), logFilter({ until: "no time" })]).toEqual(["", ""]);
  });
});

describe("the filter of operations", () => {
  it("joins what is set", () => {
    expect(operationFilter({ target: "projects/p", state: "RUNNING" })).toBe('target="projects/p" AND state=RUNNING');
    expect(operationFilter({})).toBe("");
  });
});
