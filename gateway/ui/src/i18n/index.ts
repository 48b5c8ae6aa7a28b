import { useSyncExternalStore } from "react";
import en from "./en.json";

/** A text that exists. */
export type Key = keyof typeof en;
/** Puts values into a text: `{name}`. */
export type Values = Record<string, string | number>;
export type Translate = (key: Key, values?: Values) => string;
export type Language = "en" | "zh";

const KEY = "upm.language";
const texts: Partial<Record<Language, Record<string, string>>> = { en };
const listeners = new Set<() => void>();

function wanted(): Language {
  const kept = localStorage.getItem(KEY);
  if (kept === "en" || kept === "zh") return kept;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

let language: Language = "en";
let translate: Translate = using("en");

function using(which: Language): Translate {
  const table = texts[which] ?? {};
  return (key, values) =>
    (table[key] ?? key).replace(/\{(\w+)\}/g, (whole, name: string) => String(values?.[name] ?? whole));
}

/** Loads a language and shows it. */
export async function speak(which: Language): Promise<void> {
  if (which === "zh") texts.zh ??= (await import("./zh.json")).default;
  language = which;
  translate = using(which);
  document.documentElement.lang = which;
  for (const listener of listeners) listener();
}

/** Changes the language, and remembers it. */
export async function choose(which: Language): Promise<void> {
  localStorage.setItem(KEY, which);
  await speak(which);
}

/** Shows the language of the viewer's choice, else of the browser. */
export const begin = (): Promise<void> => speak(wanted());

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The texts of the viewer's language. */
export const useT = (): Translate => useSyncExternalStore(subscribe, () => translate);
/** The viewer's language. */
export const useLanguage = (): Language => useSyncExternalStore(subscribe, () => language);
