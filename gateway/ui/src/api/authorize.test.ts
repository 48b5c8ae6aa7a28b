import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { OperationService } from "./gen/upm/operation/v1/operation_pb";
import { authorize } from "./authorize";

/** A server that takes only one token, and who gives tokens. */
function stage(good: string) {
  const refused: (string | undefined)[] = [];
  const came: string[] = [];
  const check = (header: Headers) => {
    const token = header.get("authorization") ?? "";
    came.push(token);
    if (token !== `Bearer ${good}`) throw new ConnectError("no", Code.Unauthenticated);
  };
  let held = "old";
  const tokens = {
    token: (stale?: string) => {
      if (stale !== undefined) {
        refused.push(stale);
        held = good;
      }
      return Promise.resolve(held);
    },
  };
  const transport = createRouterTransport(
    ({ service }) => {
      service(OperationService, {
        getOperation: ({ name }, { requestHeader }) => {
          check(requestHeader);
          return { name };
        },
        async *watchOperation({ name }, { requestHeader }) {
          await Promise.resolve();
          check(requestHeader);
          yield { name };
        },
      });
    },
    { transport: { interceptors: [authorize(tokens)] } },
  );
  return { client: createClient(OperationService, transport), refused, came };
}

const names = async (messages: AsyncIterable<{ name: string }>) => {
  const found: string[] = [];
  for await (const { name } of messages) found.push(name);
  return found;
};

describe("a refused token", () => {
  it("is exchanged, and the call is made once more", async () => {
    const { client, came } = stage("new");
    expect((await client.getOperation({ name: "a" })).name).toBe("a");
    expect(came).toEqual(["Bearer old", "Bearer new"]);
  });
  it("of a stream is exchanged for whoever opens it again", async () => {
    const { client, refused } = stage("new");
    await expect(names(client.watchOperation({ name: "a" }))).rejects.toThrow("no");
    expect(refused).toEqual(["old"]);
    expect(await names(client.watchOperation({ name: "a" }))).toEqual(["a"]);
    expect(refused).toEqual(["old"]);
  });
});
