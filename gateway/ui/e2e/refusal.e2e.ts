import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Platform } from "./platform";
import { close, launch, login, watched } from "./world";

let browser: Browser;
let context: BrowserContext;
let faults: string[];
let page: Page;
const platform = new Platform(18_394);
beforeAll(async () => {
  await platform.start();
  await platform.setUp();
  await platform.cli("project", "create", "shop");
  await platform.stop();
  platform.seedRefused("shop", "broken");
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

describe("a refused election", () => {
  it("is shown with what would help, and with who cannot lead", async () => {
    await page.goto(`${platform.base}/services/shop/redisServices/broken`);
    const notice = page.getByRole("region", { name: "The election of a primary was refused" });
    await notice.getByText("MEMBER_REACHABLE").waitFor();
    await notice.getByText("broken-0: does not answer since 14:02").waitFor();
    await notice.getByText("without what broken-0 confirmed since offset 4711").waitFor();
    await page.locator("[data-takeover=no]", { hasText: "it restarted" }).first().waitFor();
    await page.locator("[data-takeover=loss]").first().waitFor();
    await page.getByRole("button", { name: /^broken-2/ }).click();
    const lead = page.getByRole("button", { name: "Make it the primary" });
    expect(await lead.getAttribute("aria-disabled")).toBe("true");
  });

  it("cannot be accepted while nobody knows who leads, and says so", async () => {
    await page.getByRole("button", { name: "Accept this loss" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("without what broken-0 confirmed since offset 4711").waitFor();
    await dialog.getByText("3f9a0c51b2de", { exact: true }).waitFor();
    await dialog.getByText("AGENT_NOT_CONNECTED").waitFor();
    const accept = dialog.getByRole("button", { name: "Accept the loss" });
    expect(await accept.getAttribute("aria-disabled")).toBe("true");
    await accept.click({ force: true });
    await accept.hover();
    await page.getByRole("tooltip").getByText("There is no plan").waitFor();
    expect(await platform.cli("operation", "list", "redis")).not.toContain("redis.failover");
  });
});
