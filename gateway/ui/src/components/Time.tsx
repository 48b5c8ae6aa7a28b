import { useSyncExternalStore } from "react";
import { useLanguage } from "../i18n";
import { absolute, relative } from "../state/times";

let now = new Date();
let timer: ReturnType<typeof setInterval> | undefined;
const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    now = new Date();
    for (const each of listeners) each();
  }, 1_000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** The time, every second. */
export const useNow = (): Date => useSyncExternalStore(subscribe, () => now);

/** A moment, relative; the absolute time is on hover. */
export function Time({ at }: { at: Date | undefined }) {
  const language = useLanguage();
  const current = useNow();
  if (!at) return <span className="dim">–</span>;
  return (
    <time dateTime={at.toISOString()} title={absolute(at, language)}>
      {relative(at, at > current ? new Date() : current, language)}
    </time>
  );
}
