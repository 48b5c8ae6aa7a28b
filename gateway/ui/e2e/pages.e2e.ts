import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import en from "../src/i18n/en.json";
import zh from "../src/i18n/zh.json";
import { adminPassword, base, close, launch, login, watched } from "./world";

/** What is looked at: name, path, what says that the page is there. */
const PAGES: [string, string, string][] = [
  ["overview", "/", "Newest log entries"],
  ["services", "/services", "demo"],
  ["service-new", "/services/new", "Risk:"],
  ["service", "/services/demo/redisServices/demo", "UNITS_READY"],
  ["service-connection", "/services/demo/redisServices/demo?tab=connection", "Show the password"],
  ["service-operations", "/services/demo/redisServices/demo?tab=operations", "Succeeded"],
  ["service-parameters", "/services/demo/redisServices/demo?tab=parameters", "appendfsync"],
  ["service-logs", "/services/demo/redisServices/demo?tab=logs", "Follow the end"],
  ["service-settings", "/services/demo/redisServices/demo?tab=settings", "Danger zone"],
  ["operations", "/operations", "redis.create"],
  ["clusters", "/clusters", "Healthy"],
  ["cluster", "/clusters/local", "Connected since"],
  ["cluster-join", "/clusters/new", "Make the join command"],
  ["software", "/software", "Offered"],
  ["package", "/software/redis-7.0.15", "appendfsync"],
  ["projects", "/projects", "demo"],
  ["project", "/projects/demo", "Who has a role here"],
  ["users", "/access", "Password set"],
  ["bindings", "/access?tab=bindings", "platform-admin"],
  ["roles", "/access?tab=roles", "auth.roles"],
  ["log", "/log", "CreateRedisService"],
  ["account", "/account", "platform-admin"],
  ["not-found", "/nowhere", "There is no such page."],
];

/** Pictures are made only when somebody asks for them: a test run leaves the tree as it is. */
const PICTURES = process.env["UI_PICTURES"] === "1";
const pictures = join(import.meta.dirname, "../../../docs/ui");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Found {
  violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[];
}

/** What axe finds. It is put in by the browser's own tool, which the page's policy does not hold for. */
async function violations(page: Page): Promise<string[]> {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Runtime.evaluate", { expression: axe });
  const found = await page.evaluate(() => (window as unknown as { axe: { run: () => Promise<unknown> } }).axe.run());
  await cdp.detach();
  return (found as Found).violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary ?? ""}`),
  );
}

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
  mkdirSync(pictures, { recursive: true });
});
afterAll(async () => {
  await browser.close();
});

describe.each(["light", "dark"] as const)("in %s colours", (colors) => {
  let page: Page;
  let faults: string[];
  let context: Awaited<ReturnType<typeof watched>>["context"];
  const take = async (name: string) => {
    if (!PICTURES) return;
    await page.screenshot({ path: join(pictures, `${name}-${colors}.png`), fullPage: true, animations: "disabled" });
  };
  beforeAll(async () => {
    ({ context, faults } = await watched(browser, colors));
    page = await context.newPage();
    await login(page, "admin", adminPassword());
  });
  afterAll(async () => {
    await close(context, faults);
  });

  it.each(["login", "setup"])("%s has no barrier", async (name) => {
    await page.goto(`${base}/${name}`);
    await page.getByRole("heading", { level: 1 }).waitFor();
    expect(await violations(page)).toEqual([]);
    await take(name);
  });

  it.each(PAGES)("%s has no barrier", async (name, path, sign) => {
    await page.goto(base + path);
    await page.locator("main").getByText(sign).first().waitFor();
    await page.locator("main .skeleton").first().waitFor({ state: "detached" });
    expect(await violations(page)).toEqual([]);
    await take(name);
  });

  it("a plan, the search and the keys have no barrier", async () => {
    await page.goto(`${base}/services/demo/redisServices/demo`);
    await page.locator(".page-title button:not([aria-disabled=true])", { hasText: "Switch over" }).click();
    await page.getByRole("dialog").getByText("Risk:").waitFor();
    expect(await violations(page)).toEqual([]);
    await take("plan");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+k");
    await page.locator("[role=listbox] [role=option]").first().waitFor();
    expect(await violations(page)).toEqual([]);
    await take("search");
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.getByRole("dialog").getByText("Show the keys").waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press("Escape");
  });
});

describe("in Chinese", () => {
  let context: Awaited<ReturnType<typeof watched>>["context"];
  let faults: string[];
  let page: Page;
  /** Our own words that have another form in Chinese. */
  const english = new Set(
    Object.entries(en)
      .filter(([key, text]) => zh[key as keyof typeof zh] !== text)
      .map(([, text]) => text),
  );
  beforeAll(async () => {
    ({ context, faults } = await watched(browser, "light", "zh-CN"));
    page = await context.newPage();
    await page.goto(`${base}/login`);
    await page.getByLabel(zh["login.user"]).fill("admin");
    await page.locator("input[autocomplete=current-password]").fill(adminPassword());
    await page.locator("button[type=submit]").click();
    await page.getByRole("heading", { name: zh["nav.overview"], level: 1 }).waitFor();
  });
  afterAll(async () => {
    await close(context, faults);
  });

  it.each(PAGES)("%s has none of our words in English", async (_name, path) => {
    await page.goto(base + path);
    await page.locator("h1").waitFor();
    await page.locator("main .skeleton").first().waitFor({ state: "detached" });
    expect(await page.evaluate(() => document.documentElement.lang)).toBe("zh");
    const texts = await page
      .locator("nav a, h1, h2, h3, th, dt, button, label, legend, [role=tab], .state, option")
      .allInnerTexts();
    expect(texts.map((text) => text.trim()).filter((text) => english.has(text))).toEqual([]);
  });
});
