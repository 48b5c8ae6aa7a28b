import { Code, ConnectError } from "@connectrpc/connect";
import { useSyncExternalStore } from "react";

/** What a stream tells. */
export type Change<T> =
  | { kind: "put"; key: string; value: T }
  | { kind: "delete"; key: string }
  /** All before was told; where to resume. */
  | { kind: "bookmark"; token: string }
  /** Nothing more will come: no resume. */
  | { kind: "end" };

/** Opens a stream where the token says; an empty token is the beginning. */
export type Source<T> = (token: string, signal: AbortSignal) => AsyncIterable<Change<T>>;

/** How fresh the picture is. */
export type Link = "connecting" | "connected" | "resuming" | "stale" | "ended" | "failed";

/** What is known, and how well. */
export interface Picture<T> {
  items: ReadonlyMap<string, T>;
  /** Whether everything that exists was told. */
  ready: boolean;
  link: Link;
  /** Since when nothing is heard; set while the link is `resuming` or `stale`. */
  since?: Date;
  /** When a key was told again after the first picture: such a row is marked. */
  changed: ReadonlyMap<string, number>;
  /** Why there is no picture, or why it is old. */
  error?: unknown;
}

/** Milliseconds of a watch. */
export interface Pace {
  /** Changes of so long are shown together. */
  batch: number;
  /** Pauses between attempts, the first and the longest. */
  pause: [number, number];
  /** A link that is lost for longer is stale. */
  stale: number;
  /** A stream that says nothing for so long is taken for dead; servers send a bookmark every 30 s. 0 for never. */
  silence: number;
  /** A watch that nobody looks at goes on for so long. */
  linger: number;
  /** Whether changes are shown before the first bookmark: for streams that have none. */
  eager: boolean;
}

const PACE: Pace = { batch: 40, pause: [400, 8_000], stale: 6_000, silence: 75_000, linger: 5_000, eager: false };

/** Errors that trying again does not help against. */
const FINAL = new Set([Code.PermissionDenied, Code.NotFound, Code.Unimplemented, Code.InvalidArgument]);

/** Follows one stream: snapshot, changes, bookmarks; resumes it whenever it ends. */
export class Watch<T> {
  private picture: Picture<T> = { items: new Map(), ready: false, link: "connecting", changed: new Map() };
  private readonly listeners = new Set<() => void>();
  private token = "";
  private running: AbortController | undefined;
  private idle: ReturnType<typeof setTimeout> | undefined;
  private readonly pace: Pace;
  private wake: (() => void) | undefined;
  private ageing: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly source: Source<T>,
    pace: Partial<Pace> = {},
  ) {
    this.pace = { ...PACE, ...pace };
  }

  readonly get = (): Picture<T> => this.picture;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    clearTimeout(this.idle);
    if (!this.running) this.start();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.idle = setTimeout(() => this.stop(), this.pace.linger);
    };
  };

  /** Tries at once, for a button or a network that came back. */
  readonly retry = (): void => {
    if (this.picture.link === "failed" && this.listeners.size > 0) {
      this.stop();
      this.start();
    }
    this.wake?.();
  };

  private stop(): void {
    this.running?.abort();
    this.running = undefined;
  }

  private start(): void {
    this.running = new AbortController();
    const { signal } = this.running;
    if (this.picture.link === "failed") this.show({ link: "connecting", error: undefined });
    void this.follow(signal);
  }

  private show(news: Partial<Picture<T>>): void {
    this.picture = { ...this.picture, ...news };
    for (const listener of this.listeners) listener();
  }

  private async follow(signal: AbortSignal): Promise<void> {
    let attempt = 0;
    let refused = false;
    while (!signal.aborted) {
      const begun = Date.now();
      const heard = await this.once(signal);
      if (heard.done) return;
      // A stream that lived was no failure: the server ends streams with the token, and when it restarts.
      attempt = heard.any && Date.now() - begun > 1_000 ? 0 : attempt + 1;
      this.lose(heard.error);
      // A token that was refused is being exchanged: with the new one the stream is there at once. Refused again, it waits as for any failure.
      const again: boolean =
        heard.error !== undefined && ConnectError.from(heard.error).code === Code.Unauthenticated && !refused;
      refused = again;
      if (again) continue;
      const [least, most] = this.pace.pause;
      await this.rest(
        attempt === 0 ? 0 : Math.min(most, least * 2 ** (attempt - 1)) * (0.75 + Math.random() / 2),
        signal,
      );
    }
  }

  /** Says that nothing is heard; what was known becomes stale after a while. */
  private lose(error: unknown): void {
    const since = this.picture.since ?? new Date();
    const old = () => this.picture.ready && Date.now() - since.getTime() >= this.pace.stale;
    this.show({ link: this.picture.ready ? (old() ? "stale" : "resuming") : "connecting", since, error });
    this.ageing ??= setTimeout(() => {
      this.ageing = undefined;
      if (this.picture.link === "resuming") this.show({ link: "stale" });
    }, this.pace.stale);
  }

  private rest(pause: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, pause);
      this.wake = done;
      signal.addEventListener("abort", done);
    });
  }

  /** One life of the stream. */
  private async once(signal: AbortSignal): Promise<{ any: boolean; done: boolean; error?: unknown }> {
    const life = new AbortController();
    const end = () => life.abort();
    signal.addEventListener("abort", end);
    // A stream from the beginning tells everything before its first bookmark.
    let snapshot = this.token === "";
    const told = new Set<string>();
    let pending: Change<T>[] = [];
    let flushing: ReturnType<typeof setTimeout> | undefined;
    let silence: ReturnType<typeof setTimeout> | undefined;
    let any = false;
    const listen = () => {
      clearTimeout(silence);
      if (this.pace.silence > 0) silence = setTimeout(end, this.pace.silence);
    };
    const flush = () => {
      clearTimeout(flushing);
      flushing = undefined;
      const changes = pending;
      pending = [];
      if (changes.length > 0 && !signal.aborted) this.apply(changes, snapshot ? told : undefined);
    };
    try {
      listen();
      for await (const change of this.source(this.token, life.signal)) {
        listen();
        any = true;
        if (change.kind === "put") told.add(change.key);
        if (change.kind === "bookmark") this.token = change.token;
        if (change.kind === "end") {
          flush();
          this.show({ link: "ended", ready: true, since: undefined, error: undefined });
          return { any, done: true };
        }
        pending.push(change);
        // The snapshot is shown as a whole, when its bookmark is there; later changes soon.
        if (change.kind === "bookmark") {
          flush();
          snapshot = false;
        } else if (!snapshot || this.pace.eager) {
          flushing ??= setTimeout(flush, this.pace.batch);
        }
      }
      flush();
      return { any, done: false };
    } catch (error) {
      flush();
      if (signal.aborted) return { any, done: true };
      const { code } = ConnectError.from(error);
      if (code === Code.InvalidArgument && this.token !== "") {
        // The server does not know the token any more: from the beginning.
        this.token = "";
        return { any, done: false, error };
      }
      if (FINAL.has(code)) {
        this.running = undefined;
        this.show({ link: "failed", error, since: undefined });
        return { any, done: true, error };
      }
      return { any, done: false, error };
    } finally {
      clearTimeout(flushing);
      clearTimeout(silence);
      signal.removeEventListener("abort", end);
      life.abort();
    }
  }

  /** `snapshot` is what a stream from the beginning has told: at its bookmark everything else is gone. */
  private apply(changes: Change<T>[], snapshot: Set<string> | undefined): void {
    const items = new Map(this.picture.items);
    const changed = new Map(this.picture.changed);
    const now = Date.now();
    let { ready } = this.picture;
    for (const change of changes) {
      switch (change.kind) {
        case "put":
          if (ready) changed.set(change.key, now);
          items.set(change.key, change.value);
          break;
        case "delete":
          items.delete(change.key);
          changed.delete(change.key);
          break;
        case "bookmark":
          for (const key of snapshot ? items.keys() : []) if (!snapshot?.has(key)) items.delete(key);
          ready = true;
          break;
        case "end":
          break;
      }
    }
    for (const [key, at] of changed) if (now - at > 10_000) changed.delete(key);
    clearTimeout(this.ageing);
    this.ageing = undefined;
    this.show({ items, changed, ready, link: "connected", since: undefined, error: undefined });
  }
}

/** Follows a watch while the component lives. */
export function useWatch<T>(watch: Watch<T>): Picture<T> {
  return useSyncExternalStore(watch.subscribe, watch.get);
}
