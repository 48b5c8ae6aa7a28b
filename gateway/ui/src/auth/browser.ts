import { createClient } from "@connectrpc/connect";
import { AuthService } from "../api/gen/upm/auth/v1/auth_pb";
import { publicTransport } from "../api/transport";
import type { Kept, World } from "./session";

const KEY = "upm.session";

/** The browser's world. */
export function browser(): World {
  const channel = new BroadcastChannel(KEY);
  const auth = createClient(AuthService, publicTransport);
  return {
    read() {
      const text = sessionStorage.getItem(KEY);
      return text === null ? undefined : (JSON.parse(text) as Kept);
    },
    write(kept) {
      if (kept) sessionStorage.setItem(KEY, JSON.stringify(kept));
      else sessionStorage.removeItem(KEY);
    },
    post: (message) => channel.postMessage(message),
    listen: (listener) => channel.addEventListener("message", (event) => listener(event.data)),
    async alone(work) {
      // Pages without TLS, other than localhost, have no locks: there two tabs may refresh at once, and one has to log in again.
      const locks = navigator.locks as LockManager | undefined;
      if (!locks) return work(false);
      const { held = [] } = await locks.query();
      const waited = held.some((lock) => lock.name === KEY);
      return locks.request(KEY, () => work(waited));
    },
    refresh: (refreshToken) => auth.refresh({ refreshToken }),
    async logout(refreshToken) {
      await auth.logout({ refreshToken });
    },
    now: () => Date.now(),
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  };
}
