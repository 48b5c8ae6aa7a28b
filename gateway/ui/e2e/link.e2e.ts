import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Platform } from "./platform";
import { close, fillLogin, launch, login, watched } from "./world";
import { Wire } from "./wire";

let browser: Browser;
const platform = new Platform(18_380);
const wire = new Wire(18_380);
beforeAll(async () => {
  browser = await launch();
  await platform.start();
  await wire.open();
});
afterAll(async () => {
  wire.close();
  await platform.remove();
  await browser.close();
});

describe("the first start", () => {
  it("makes the administrator, who can log in again", async () => {
    const { context, faults } = await watched(browser);
    const page = await context.newPage();
    await page.goto(platform.base);
    await page.getByRole("link", { name: "First start" }).click();
    const [token, password, again] = [0, 1, 2].map((at) => page.locator("input[type=password]").nth(at));
    await token?.fill("not the token");
    await password?.fill(platform.password);
    await again?.fill(platform.password);
    await page.getByRole("button", { name: "Create the administrator" }).click();
    await page.getByText("This is not the set-up token.").waitFor();
    await token?.fill(platform.setupToken);
    await page.getByRole("button", { name: "Create the administrator" }).click();
    await page.getByText("No cluster has joined yet.").waitFor();
    await page.getByRole("button", { name: "admin" }).click();
    await page.getByRole("menuitem", { name: "Log out" }).click();
    await fillLogin(page, "admin", "wrong password!");
    await page.getByText("User or password is wrong.").waitFor();
    await fillLogin(page, "admin", platform.password);
    await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
    await close(context, faults);
    await platform.logIn();
  });
});

describe("the page's policy", () => {
  it("stops a script in the page, and the tests hear of it", async () => {
    const { context, faults } = await watched(browser);
    const page = await context.newPage();
    await page.goto(`${platform.base}/login`);
    await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.head.append(script);
      document.body.append(Object.assign(new Image(), { src: "https://elsewhere.example/x.png" }));
    });
    await expect.poll(() => faults.filter((one) => one.startsWith("policy:")).length).toBeGreaterThan(1);
    expect(faults.some((one) => one.includes("script-src"))).toBe(true);
    expect(faults.some((one) => one.includes("img-src"))).toBe(true);
    expect(await page.evaluate(() => (window as unknown as { ran?: boolean }).ran)).toBeUndefined();
    await context.close();
  });

  it("is not needed for texts of others: they are shown as text", async () => {
    const evil = `<img src=x onerror="document.title='ran'"><script>document.title='ran'</script>`;
    await platform.cli("project", "create", "evil", "--display-name", evil);
    const { context, faults } = await watched(browser);
    const page = await context.newPage();
    await login(page, "admin", platform.password, platform.base);
    for (const path of ["/projects", "/log"]) {
      await page.goto(platform.base + path);
      if (path === "/log") await page.getByRole("button", { name: "CreateProject" }).first().click();
      await page.getByText("onerror=").first().waitFor();
      expect(await page.locator("main img, main script").count()).toBe(0);
      expect(await page.title()).not.toBe("ran");
    }
    await close(context, faults);
  });
});

describe("an open page", () => {
  let context: BrowserContext;
  let faults: string[];
  let page: Page;
  const made: string[] = [];
  const make = async (id: string) => {
    made.push(id);
    await platform.cli("project", "create", id);
  };
  /** Projects of the log's entries, from the newest. */
  const shown = () =>
    page
      .locator("main tbody tr", { hasText: "CreateProject" })
      .locator("td:nth-child(4)")
      .allTextContents()
      .then((texts) => texts.map((text) => text.replace("projects/", "")));
  const link = (state: string) => page.locator(`main [data-link="${state}"]`).first().waitFor({ timeout: 60_000 });
  const each = () => expect.poll(shown, { timeout: 20_000 }).toEqual([...made].reverse());

  beforeAll(async () => {
    ({ context, faults } = await watched(browser));
    page = await context.newPage();
    await login(page, "admin", platform.password, wire.base);
    await page.goto(`${wire.base}/log?live=yes`);
    await link("connected");
    await page.evaluate(() => ((window as unknown as { kept: number }).kept = 1));
  });
  afterAll(async () => {
    await close(context, faults);
  });

  it("hears of what happens, in its order", async () => {
    await make("one");
    await make("two");
    await each();
  });

  it("over a cut network loses nothing and shows nothing twice", async () => {
    wire.cut();
    await make("three");
    await make("four");
    await page.locator("main").getByText("Reconnecting").waitFor();
    await page.locator("main").getByText("Nothing heard since").waitFor();
    wire.mend();
    await make("five");
    await each();
    await link("connected");
  });

  it("over a restart of the gateway loses nothing and shows nothing twice", async () => {
    await platform.stop();
    await page.locator("main").getByText("Reconnecting").waitFor();
    await platform.start();
    await make("six");
    await each();
    await link("connected");
  });

  it("gets a new token when the server refuses the old one", async () => {
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url().slice(request.url().lastIndexOf("/") + 1)));
    let refused = 0;
    await page.route("**/TailEntries", (route) => {
      if (refused > 0) return route.continue();
      refused += 1;
      return route.continue({ headers: { ...route.request().headers(), authorization: "Bearer no.such.token" } });
    });
    wire.cut();
    await page.locator("main").getByText("Reconnecting").waitFor();
    wire.mend();
    await make("seven");
    await each();
    expect([refused, asked.filter((one) => one === "Refresh").length]).toEqual([1, 1]);
    await page.unroute("**/TailEntries");
  });

  it("was never loaded again", async () => {
    expect(await page.evaluate(() => (window as unknown as { kept: number }).kept)).toBe(1);
  });
});
