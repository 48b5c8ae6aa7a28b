import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import en from "./en.json";
import zh from "./zh.json";

const root = join(import.meta.dirname, "..");
const sources = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((path) => /\.tsx?$/.test(path) && !path.endsWith(".test.ts") && !path.startsWith("api/gen/"))
  .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
const placeholders = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(([name]) => name).sort();

describe("texts", () => {
  it("exist in both languages", () => {
    expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
  });
  it("have the same values to put in", () => {
    for (const [key, text] of Object.entries(en)) {
      expect([key, ...placeholders(zh[key as keyof typeof zh])]).toEqual([key, ...placeholders(text)]);
    }
  });
  it("are all used", () => {
    const all = sources.map((one) => one.text).join("\n");
    expect(Object.keys(en).filter((key) => !all.includes(`"${key}"`))).toEqual([]);
  });
  it("that are used exist", () => {
    const used = sources.flatMap(({ text }) => [...text.matchAll(/\bt\(\s*"([^"]+)"/g)].map((match) => match[1] ?? ""));
    expect(used.filter((key) => !(key in en))).toEqual([]);
    expect(used.length).toBeGreaterThan(200);
  });
});

describe("engines", () => {
  const folder = "pages/services/";
  const engines = sources.filter(
    ({ path }) => path.startsWith(folder) && /^[a-z]+\.tsx$/.test(path.slice(folder.length)),
  );
  it("are named in no file but their own", () => {
    expect(engines.length).toBeGreaterThan(0);
    for (const engine of engines) {
      const name = engine.path.slice(folder.length, -".tsx".length);
      const elsewhere = sources.filter((one) => one !== engine && one.text.toLowerCase().includes(name));
      expect(elsewhere.map((one) => one.path)).toEqual([]);
      expect(JSON.stringify([en, zh]).toLowerCase()).not.toContain(name);
    }
  });
});
