import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { TokenResponseSchema } from "../api/gen/upm/auth/v1/auth_pb";
import { type Kept, Session, type World } from "./session";

/** A browser with tabs, and a server that lets a refresh token be used once. */
class Stage {
  now = 1_000_000;
  good = "r0";
  count = 0;
  refreshes = 0;
  loggedOut = false;
  private readonly listeners: ((message: unknown) => void)[] = [];
  private queue: Promise<unknown> = Promise.resolve();
  private holders = 0;

  answer() {
    this.count += 1;
    this.good = `r${this.count}`;
    return create(TokenResponseSchema, {
      accessToken: `a${this.count}`,
      refreshToken: this.good,
      expireTime: timestampFromMs(this.now + 300_000),
      refreshExpireTime: timestampFromMs(this.now + 3_600_000),
      user: "users/admin",
    });
  }

  tab(kept?: Kept): Session {
    let own = kept;
    let heard: ((message: unknown) => void) | undefined;
    const world: World = {
      read: () => own,
      write: (news) => {
        own = news;
      },
      post: (message) => {
        for (const listener of this.listeners) if (listener !== heard) listener(message);
      },
      listen: (listener) => {
        heard = listener;
        this.listeners.push(listener);
      },
      alone: (work) => {
        const waited = this.holders > 0;
        this.holders += 1;
        const turn = this.queue.then(() => work(waited));
        this.queue = turn.catch(() => undefined).finally(() => (this.holders -= 1));
        return turn;
      },
      refresh: async (token) => {
        this.refreshes += 1;
        await Promise.resolve();
        if (token !== this.good) throw new ConnectError("reused", Code.Unauthenticated);
        return this.answer();
      },
      logout: async () => {
        this.loggedOut = true;
        await Promise.resolve();
      },
      now: () => this.now,
      pause: () => Promise.resolve(),
    };
    return new Session(world);
  }
}

const kept = (stage: Stage): Kept => ({
  refreshToken: "r0",
  refreshExpires: stage.now + 3_600_000,
  user: "users/admin",
});

describe("a session", () => {
  it("refreshes once for all calls that wait", async () => {
    const stage = new Stage();
    const tab = stage.tab(kept(stage));
    await tab.start();
    expect(await Promise.all([tab.token(), tab.token(), tab.token()])).toEqual(["a1", "a1", "a1"]);
    expect(stage.refreshes).toBe(1);
  });

  it("refreshes in one tab at a time, and the others take its tokens", async () => {
    const stage = new Stage();
    const [one, two] = [stage.tab(kept(stage)), stage.tab(kept(stage))];
    await Promise.all([one.start(), two.start()]);
    expect(await Promise.all([one.token(), two.token()])).toEqual(["a1", "a1"]);
    expect(stage.refreshes).toBe(1);
    expect([one.get(), two.get()]).toEqual(["in", "in"]);
  });

  it("is taken over by a new tab", async () => {
    const stage = new Stage();
    const first = stage.tab();
    first.begin(stage.answer());
    const second = stage.tab();
    await second.start();
    expect(second.get()).toBe("in");
    expect(await second.token()).toBe("a1");
    expect(stage.refreshes).toBe(0);
  });

  it("refreshes shortly before the end, and after a refusal", async () => {
    const stage = new Stage();
    const tab = stage.tab();
    tab.begin(stage.answer());
    expect(await tab.token()).toBe("a1");
    stage.now += 285_000;
    expect(await tab.token()).toBe("a2");
    expect(await tab.token("a2")).toBe("a3");
  });

  it("has expired, and is not out, when the refresh token is refused", async () => {
    const stage = new Stage();
    const tab = stage.tab({ ...kept(stage), refreshToken: "stolen" });
    await tab.start();
    await expect(tab.token()).rejects.toThrow("ended");
    expect(tab.get()).toBe("expired");
    expect(tab.user).toBe("users/admin");
  });

  it("ends in all tabs with a logout", async () => {
    const stage = new Stage();
    const [one, two] = [stage.tab(), stage.tab()];
    one.begin(stage.answer());
    await two.start();
    await one.logout();
    expect([one.get(), two.get(), stage.loggedOut]).toEqual(["out", "out", true]);
    await expect(two.token()).rejects.toThrow();
  });

  it("survives a platform that is away", async () => {
    const stage = new Stage();
    const tab = stage.tab(kept(stage));
    await tab.start();
    stage.answer = () => {
      throw new ConnectError("away", Code.Unavailable);
    };
    await expect(tab.token()).rejects.toThrow("away");
    expect(tab.get()).toBe("in");
  });
});
