import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport, createClient } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EntrySchema, OperatorLogService } from "../../api/gen/upm/operatorlog/v1/operatorlog_pb";
import { tail } from "./tail";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe("the tail of the log", () => {
  it("loses nothing when it is cut before its first entry", async () => {
    const entry = (n: bigint) => create(EntrySchema, { name: `operatorLog/entries/${n}`, sequence: n });
    const begun: bigint[] = [];
    let head = 7n;
    const transport = createRouterTransport(({ service }) => {
      service(OperatorLogService, {
        listEntries: () => ({ entries: [entry(head)] }),
        async *tailEntries({ afterSequence }, { signal }) {
          begun.push(afterSequence);
          if (begun.length === 1) {
            head = 9n;
            throw new ConnectError("cut", Code.Unavailable);
          }
          for (let n = afterSequence + 1n; n <= head; n += 1n) yield entry(n);
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
        },
      });
    });
    const watch = tail(createClient(OperatorLogService, transport), "");
    watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(100);
    expect(watch.get().ready).toBe(true);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(begun).toEqual([7n, 7n]);
    expect([...watch.get().items.values()].map((one) => one.sequence)).toEqual([8n, 9n]);
  });
});
