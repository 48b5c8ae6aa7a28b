import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Platform } from "./platform";
import { close, launch, login, watched } from "./world";

const COUNT = 5_000;
/** What an interaction may take until it is seen, in milliseconds. */
const LIMIT = 100;
const TIMES = 7;

let browser: Browser;
let context: BrowserContext;
let faults: string[];
let page: Page;
const platform = new Platform(18_390);
beforeAll(async () => {
  await platform.start();
  platform.setUp();
  platform.cli("project", "create", "many");
  await platform.stop();
  platform.seed("many", COUNT);
  await platform.start();
  browser = await launch();
  ({ context, faults } = await watched(browser));
  page = await context.newPage();
  await login(page, "admin", platform.password, platform.base);
});
afterAll(async () => {
  await close(context, faults);
  await browser.close();
  await platform.remove();
});

/** How long it takes from an act to the first frame in which its outcome is drawn; the middle of several times. */
async function median(what: string, act: (turn: number) => { script: string; seen: string }): Promise<number> {
  const spans: number[] = [];
  for (let turn = 0; turn < TIMES; turn += 1) {
    const { script, seen } = act(turn);
    spans.push(
      await page.evaluate<number>(`new Promise((resolve, reject) => {
        const begun = performance.now();
        ${script};
        const look = () => {
          if (${seen}) setTimeout(() => resolve(performance.now() - begun));
          else if (performance.now() - begun > 5000) reject(new Error("never seen: " + ${JSON.stringify(seen)}));
          else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
      })`),
    );
  }
  spans.sort((a, b) => a - b);
  const middle = spans[Math.floor(TIMES / 2)] ?? Infinity;
  console.log(`${what}: ${middle.toFixed(0)} ms, at most ${(spans.at(-1) ?? 0).toFixed(0)} ms`);
  return middle;
}

const typing = (selector: string, text: string) => `
  const input = document.querySelector(${JSON.stringify(selector)});
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, ${JSON.stringify(text)});
  input.dispatchEvent(new Event("input", { bubbles: true }))`;
const counted = (n: number) =>
  `document.querySelector(".filters [role=status]")?.textContent.startsWith(${JSON.stringify(`${n} of `)})`;

describe(`a list of ${COUNT} services`, () => {
  it("draws only the rows that are seen", async () => {
    await page.goto(`${platform.base}/services`);
    await page.getByText(`${COUNT} of ${COUNT}`).waitFor();
    await page.getByRole("link", { name: "service-00000" }).waitFor();
    expect(await page.locator("main tbody tr").count()).toBeLessThan(80);
    expect(await page.locator("main table").getAttribute("aria-rowcount")).toBe(String(COUNT + 1));
  });

  it("is filtered by each letter in less than 100 ms", async () => {
    const wanted = [
      ["service-0", COUNT],
      ["service-01", 1000],
      ["service-012", 100],
      ["service-0123", 10],
    ] as const;
    const filter = "main .filters input[type=search]";
    const span = await median("a letter", (turn) => {
      const [text, found] = wanted[turn % wanted.length] ?? ["", COUNT];
      return { script: typing(filter, text), seen: counted(found) };
    });
    expect(span).toBeLessThan(LIMIT);
    await page.locator(filter).fill("");
    await page.getByText(`${COUNT} of ${COUNT}`).waitFor();
  });

  it("is filtered by state in less than 100 ms", async () => {
    const span = await median("a state", (turn) => ({
      script: `
        const select = document.querySelector("main .filters select");
        Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, "value").set.call(select, "${turn % 2 === 0 ? "FAILED" : ""}");
        select.dispatchEvent(new Event("change", { bubbles: true }))`,
      seen: counted(turn % 2 === 0 ? COUNT / 10 : COUNT),
    }));
    expect(span).toBeLessThan(LIMIT);
    await page.locator("main .filters select").selectOption("");
    await page.getByText(`${COUNT} of ${COUNT}`).waitFor();
  });

  it("scrolls to any place in less than 100 ms", async () => {
    const span = await median("a jump", (turn) => {
      const share = [0.5, 0.1, 0.9, 0.3, 1, 0, 0.7][turn % 7] ?? 0;
      return {
        script: `scrollTo(0, (document.documentElement.scrollHeight - innerHeight) * ${share})`,
        // A drawn row is in the middle of the window.
        seen: `document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest("tr[aria-rowindex]")`,
      };
    });
    expect(span).toBeLessThan(LIMIT);
    const last = page.getByRole("link", { name: `service-0${COUNT - 1}` });
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    await last.waitFor();
  });

  it("is sorted by a column in less than 100 ms", async () => {
    await page.evaluate(() => scrollTo(0, 0));
    const span = await median("a sort", (turn) => ({
      script: `document.querySelector("main thead th button").click()`,
      seen: `document.querySelector("main thead th")?.getAttribute("aria-sort") === "${turn % 2 === 0 ? "ascending" : "descending"}"
        && document.querySelector("main tbody a")?.textContent === "service-${turn % 2 === 0 ? "00000" : `0${COUNT - 1}`}"`,
    }));
    expect(span).toBeLessThan(LIMIT);
  });

  it("is searched by Ctrl K in less than 100 ms", async () => {
    await page.keyboard.press("Control+k");
    await page.getByRole("option").first().waitFor();
    const wanted = [
      "service-04",
      "service-042",
      "service-0421",
      "service-04211",
      "service-0421",
      "service-0",
      "many 00017",
    ];
    const span = await median("a letter of the search", (turn) => {
      const text = wanted[turn % wanted.length] ?? "";
      const digits = text.startsWith("service-") ? text : "service-00017";
      return {
        script: typing(".palette-input", text),
        seen: `document.querySelector(".palette-input")?.value === ${JSON.stringify(text)}
          && (document.querySelector("[role=option]")?.textContent.startsWith(${JSON.stringify(digits)})
            || document.querySelector(".palette-input + ul:empty"))`,
      };
    });
    expect(span).toBeLessThan(LIMIT);
    await page.keyboard.press("Escape");
  });
});
