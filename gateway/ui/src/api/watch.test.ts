import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { merge } from "./merged";
import { type Change, type Picture, type Source, Watch } from "./watch";

/** Streams that a test plays, one after the other. */
function played(...streams: ((signal: AbortSignal) => AsyncGenerator<Change<string>>)[]) {
  const tokens: string[] = [];
  const source: Source<string> = (token, signal) => {
    tokens.push(token);
    const stream = streams[tokens.length - 1];
    return stream ? stream(signal) : silence(signal);
  };
  return { source, tokens };
}

async function* silence(signal: AbortSignal): AsyncGenerator<Change<string>> {
  yield* [];
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
}

const put = (key: string, value: string): Change<string> => ({ kind: "put", key, value });
const bookmark = (token: string): Change<string> => ({ kind: "bookmark", token });
const names = (picture: Picture<string>) => [...picture.items].map(([key, value]) => `${key}=${value}`);

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe("a watch", () => {
  it("is ready with the snapshot's bookmark, as a whole", async () => {
    const { source } = played(async function* (signal) {
      yield put("a", "1");
      yield put("b", "1");
      await new Promise((resolve) => setTimeout(resolve, 500));
      yield bookmark("t1");
      yield* silence(signal);
    });
    const watch = new Watch(source);
    watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(300);
    expect(watch.get()).toMatchObject({ ready: false, link: "connecting" });
    await vi.advanceTimersByTimeAsync(300);
    expect(watch.get()).toMatchObject({ ready: true, link: "connected" });
    expect(names(watch.get())).toEqual(["a=1", "b=1"]);
  });

  it("resumes at the last bookmark and keeps what it knew", async () => {
    const { source, tokens } = played(
      async function* () {
        yield put("a", "1");
        yield bookmark("t1");
        throw await Promise.resolve(new ConnectError("cut", Code.Unavailable));
      },
      async function* (signal) {
        yield put("b", "2");
        yield { kind: "delete", key: "a" };
        yield bookmark("t2");
        yield* silence(signal);
      },
    );
    const watch = new Watch(source);
    watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(10);
    expect(watch.get().link).toBe("resuming");
    expect(names(watch.get())).toEqual(["a=1"]);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(tokens).toEqual(["", "t1"]);
    expect(names(watch.get())).toEqual(["b=2"]);
    expect(watch.get()).toMatchObject({ link: "connected", since: undefined });
  });

  it("is stale since the loss when nobody answers for long", async () => {
    const gone = async function* (): AsyncGenerator<Change<string>> {
      yield* [];
      throw await Promise.resolve(new ConnectError("away", Code.Unavailable));
    };
    const { source } = played(
      async function* () {
        yield bookmark("t1");
        throw await Promise.resolve(new ConnectError("cut", Code.Unavailable));
      },
      ...Array.from({ length: 40 }, () => gone),
    );
    const watch = new Watch(source);
    watch.subscribe(() => undefined);
    const begun = Date.now();
    await vi.advanceTimersByTimeAsync(7_000);
    expect(watch.get().link).toBe("stale");
    expect((watch.get().since?.getTime() ?? 0) - begun).toBeLessThan(50);
  });

  it("comes back at once after a refused token, and waits after two", async () => {
    const refuse = async function* (): AsyncGenerator<Change<string>> {
      yield* [];
      throw await Promise.resolve(new ConnectError("no", Code.Unauthenticated));
    };
    const { source, tokens } = played(refuse, refuse, refuse);
    const watch = new Watch(source);
    watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(10);
    expect(tokens.length).toBe(2);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(tokens.length).toBe(4);
  });

  it("begins anew when the server does not know its token", async () => {
    const { source, tokens } = played(
      async function* () {
        yield put("old", "1");
        yield bookmark("t1");
        throw await Promise.resolve(new ConnectError("cut", Code.Unavailable));
      },
      async function* () {
        yield* [];
        throw await Promise.resolve(new ConnectError("what token", Code.InvalidArgument));
      },
      async function* (signal) {
        yield put("new", "1");
        yield bookmark("t9");
        yield* silence(signal);
      },
    );
    const watch = new Watch(source);
    watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(tokens).toEqual(["", "t1", ""]);
    expect(names(watch.get())).toEqual(["new=1"]);
  });

  it("does not try again what is forbidden", async () => {
    const { source, tokens } = played(async function* () {
      yield* [];
      throw await Promise.resolve(new ConnectError("no", Code.PermissionDenied));
    });
    const watch = new Watch(source);
    watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(watch.get().link).toBe("failed");
    expect(tokens).toHaveLength(1);
  });

  it("takes a stream that says nothing for dead", async () => {
    const { source, tokens } = played(async function* (signal) {
      yield bookmark("t1");
      yield* silence(signal);
    });
    const watch = new Watch(source, { silence: 1_000 });
    watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(1_800);
    expect(tokens.slice(0, 2)).toEqual(["", "t1"]);
  });

  it("ends when nobody looks at it any more", async () => {
    let ended = false;
    const { source } = played(async function* (signal) {
      yield bookmark("t1");
      yield* silence(signal);
      ended = true;
    });
    const watch = new Watch(source);
    const leave = watch.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(10);
    leave();
    await vi.advanceTimersByTimeAsync(4_000);
    expect(ended).toBe(false);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(ended).toBe(true);
  });
});

describe("merged pictures", () => {
  const picture = (news: Partial<Picture<string>>): Picture<string> => ({
    items: new Map(),
    changed: new Map(),
    ready: true,
    link: "connected",
    ...news,
  });
  it("are as fresh as the oldest", () => {
    const since = new Date(5);
    const sum = merge([picture({}), picture({ link: "stale", since }), picture({ ready: false })]);
    expect(sum).toMatchObject({ link: "stale", since, ready: false });
  });
  it("have the items of all", () => {
    const sum = merge([picture({ items: new Map([["a", "1"]]) }), picture({ items: new Map([["b", "2"]]) })]);
    expect(names(sum)).toEqual(["a=1", "b=2"]);
  });
});
