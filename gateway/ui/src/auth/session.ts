import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { TokenResponse } from "../api/gen/upm/auth/v1/auth_pb";
import type { Tokens } from "../api/authorize";

/** Where the session is. `expired`: somebody was logged in and has to say the password again; the page stays. */
export type Phase = "starting" | "out" | "in" | "expired";

/** What tabs tell each other. Tokens travel between tabs of one origin only, and are kept in memory. */
type Message = { kind: "ask" } | { kind: "tokens"; kept: Kept; access: Access } | { kind: "logout" };

/** What a reload keeps, in `sessionStorage`. */
export interface Kept {
  refreshToken: string;
  /** Milliseconds since 1970. */
  refreshExpires: number;
  user: string;
}

/** In memory only. */
export interface Access {
  token: string;
  expires: number;
}

/** What a session needs of the browser and of the API. */
export interface World {
  read(): Kept | undefined;
  write(kept: Kept | undefined): void;
  post(message: unknown): void;
  listen(listener: (message: unknown) => void): void;
  /** Runs alone among all tabs. */
  alone<R>(work: (waited: boolean) => Promise<R>): Promise<R>;
  refresh(refreshToken: string): Promise<TokenResponse>;
  logout(refreshToken: string): Promise<void>;
  now(): number;
  pause(ms: number): Promise<void>;
}

/** A token with less life than this is refreshed before it is used, in milliseconds. */
const MARGIN = 20_000;
/** Other tabs answer within this time, in milliseconds. */
const ANSWER = 250;

/** Who is logged in. One object a tab. */
export class Session implements Tokens {
  private access: Access | undefined;
  private phase: Phase = "starting";
  private refreshing: Promise<string> | undefined;
  private readonly listeners = new Set<() => void>();

  constructor(private readonly world: World) {
    world.listen((message) => this.hear(message as Message));
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly get = (): Phase => this.phase;

  /** `users/{user}`; empty when nobody was ever logged in. */
  get user(): string {
    return this.world.read()?.user ?? "";
  }

  /** Finds out who is logged in: by this tab's own storage, or by another tab. */
  async start(): Promise<void> {
    if (!this.world.read()) {
      this.world.post({ kind: "ask" } satisfies Message);
      await this.world.pause(ANSWER);
    }
    if (this.phase === "starting") this.turn(this.world.read() ? "in" : "out");
  }

  /** Takes the answer of a login or of the set-up. */
  begin(answer: TokenResponse): void {
    this.take(answer);
    this.turn("in");
  }

  async token(stale?: string): Promise<string> {
    const { access } = this;
    if (access && access.token !== stale && access.expires - MARGIN > this.world.now()) return access.token;
    this.refreshing ??= this.refresh(stale).finally(() => {
      this.refreshing = undefined;
    });
    return this.refreshing;
  }

  async logout(): Promise<void> {
    const kept = this.world.read();
    this.forget();
    this.world.post({ kind: "logout" } satisfies Message);
    // The tokens are gone here in any case; the server ends the family when it hears of it.
    if (kept) await this.world.logout(kept.refreshToken).catch(() => undefined);
  }

  private async refresh(stale?: string): Promise<string> {
    return this.world.alone(async (waited) => {
      // Who had the lock before may have told us its tokens a moment ago.
      if (waited) await this.world.pause(ANSWER / 2);
      const { access } = this;
      if (access && access.token !== stale && access.expires - MARGIN > this.world.now()) return access.token;
      const kept = this.world.read();
      if (!kept) throw this.end(this.phase === "in");
      if (kept.refreshExpires <= this.world.now()) throw this.end(true);
      try {
        return this.take(await this.world.refresh(kept.refreshToken));
      } catch (error) {
        if (ConnectError.from(error).code === Code.Unauthenticated) throw this.end(true);
        throw error;
      }
    });
  }

  private end(expired: boolean): ConnectError {
    this.access = undefined;
    this.turn(expired ? "expired" : "out");
    return new ConnectError("the session has ended", Code.Unauthenticated);
  }

  private take(answer: TokenResponse): string {
    const time = (at: TokenResponse["expireTime"]) => (at ? timestampDate(at).getTime() : 0);
    const kept = {
      refreshToken: answer.refreshToken,
      refreshExpires: time(answer.refreshExpireTime),
      user: answer.user,
    };
    this.access = { token: answer.accessToken, expires: time(answer.expireTime) };
    this.world.write(kept);
    this.world.post({ kind: "tokens", kept, access: this.access } satisfies Message);
    return this.access.token;
  }

  private forget(): void {
    this.access = undefined;
    this.world.write(undefined);
    this.turn("out");
  }

  private hear(message: Message): void {
    switch (message.kind) {
      case "ask": {
        const kept = this.world.read();
        if (kept && this.access && this.phase === "in") {
          this.world.post({ kind: "tokens", kept, access: this.access } satisfies Message);
        }
        break;
      }
      case "tokens": {
        const own = this.world.read();
        // Another user's tab: this one stays who it is until it is logged out.
        if (own && own.user !== message.kept.user && this.phase === "in") return;
        this.access = message.access;
        this.world.write(message.kept);
        if (this.phase !== "in") this.turn("in");
        break;
      }
      case "logout":
        this.forget();
        break;
    }
  }

  private turn(phase: Phase): void {
    if (this.phase === phase) return;
    this.phase = phase;
    for (const listener of this.listeners) listener();
  }
}
