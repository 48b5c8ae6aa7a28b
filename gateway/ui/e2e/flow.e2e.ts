import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adminPassword, badge, base, cli, close, launch, login, restartPlatform, script, watched } from "./world";

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(async () => {
  await browser.close();
});

describe("the life of a service", () => {
  const id = `ui${Date.now().toString(36)}`;
  let context: BrowserContext;
  let faults: string[];
  let page: Page;
  /** Who is drawn as the primary. */
  const leader = async () =>
    (await page.locator(".node", { hasText: "Primary" }).locator("strong").textContent({ timeout: 60_000 })) ?? "";
  beforeAll(async () => {
    ({ context, faults } = await watched(browser));
    page = await context.newPage();
    await login(page, "admin", adminPassword());
  });
  afterAll(async () => {
    await close(context, faults);
  });

  it("says beside the field what is wrong, before anything happens", async () => {
    await page.goto(`${base}/services/new`);
    await page.getByRole("textbox", { name: "Id", exact: true }).fill("Wrong Id");
    await page.getByRole("textbox", { name: "Memory", exact: true }).fill("1Mi");
    const memory = page.locator(".mantine-InputWrapper-root", { hasText: "Memory of each member" });
    await memory.locator(".mantine-InputWrapper-error").waitFor();
    expect(await memory.locator(".mantine-InputWrapper-error").textContent()).toContain("64Mi");
    await page.getByText(/things are not right yet/).waitFor();
    expect(await page.getByRole("button", { name: "Create" }).getAttribute("aria-disabled")).toBe("true");
  });

  it("is created by the wizard and comes up", async () => {
    await page.getByRole("textbox", { name: "Id", exact: true }).fill(id);
    await page.getByRole("textbox", { name: "Memory", exact: true }).fill("128Mi");
    // The node has two CPUs, and "demo" has most of them.
    await page.getByRole("textbox", { name: "CPU", exact: true }).fill("50m");
    await page.getByText("record", { exact: false }).first().waitFor();
    await page.locator("button:not([aria-disabled=true])", { hasText: /^Create$/ }).click();
    await page.getByRole("heading", { name: id, level: 1 }).waitFor();
    await badge(page).getByText("Ready").waitFor({ timeout: 110_000 });
    await page.getByRole("button", { name: new RegExp(`^${id}-2`) }).waitFor();
  });

  it("says of each member whether it may take over, and why not", async () => {
    const row = (member: string) => page.getByRole("row", { name: new RegExp(`^${member}\\b`) });
    await row(await leader())
      .getByText("It leads.")
      .waitFor();
    const replica = (await leader()).endsWith("-0") ? `${id}-1` : `${id}-0`;
    await row(replica)
      .getByText(/^It may, (at once|once it has)/)
      .waitFor();
  });

  it("shows the election after its primary was killed, without a reload", async () => {
    await page.evaluate(() => ((window as unknown as { kept: number }).kept = 1));
    const before = await leader();
    script('kubectl -n demo delete pod "$1" --grace-period=0 --force --wait=false 2>/dev/null', before);
    await expect.poll(leader, { timeout: 60_000 }).not.toBe(before);
    await page
      .getByText(/epoch [2-9]/)
      .first()
      .waitFor();
    await badge(page).getByText("Ready").waitFor({ timeout: 90_000 });
    expect(await page.evaluate(() => (window as unknown as { kept: number }).kept)).toBe(1);
  });

  it("is in the list, and is found by the keyboard", async () => {
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox", { name: "Search" }).fill(id);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: id, level: 1 }).waitFor();
    await page.goto(`${base}/services`);
    await page.getByRole("link", { name: id, exact: true }).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type(id);
    await page.getByText(/^1 of/).waitFor();
    await page.keyboard.press("Tab");
    await page.getByRole("heading", { name: "Services" }).click();
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: id, level: 1 }).waitFor();
  });

  it("gets another primary by a click on a member", async () => {
    const other = (await leader()).endsWith("-0") ? `${id}-1` : `${id}-0`;
    await page.locator(".node", { hasText: other }).click();
    await page.getByRole("button", { name: "Make it the primary" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("writes pause for less than one second", { exact: false }).waitFor();
    await dialog.locator("button:not([aria-disabled=true])", { hasText: "Switch over" }).click();
    await dialog.getByText("Succeeded").waitFor({ timeout: 60_000 });
    await dialog.getByRole("button", { name: "Close" }).last().click();
    await page.locator(".node", { hasText: "Primary" }).getByText(other).waitFor({ timeout: 30_000 });
  });

  it("is followed over a restart of the platform, without a reload", async () => {
    await page.evaluate(() => ((window as unknown as { kept: number }).kept = 1));
    restartPlatform();
    await page.locator('.page-title [data-link="connected"]').waitFor({ timeout: 60_000 });
    cli("redis", "scale", id, "--project", "demo", "--members", "2");
    await page.locator(".node").nth(2).waitFor({ state: "detached", timeout: 90_000 });
    expect(await page.evaluate(() => (window as unknown as { kept: number }).kept)).toBe(1);
    expect(await page.locator(".node").count()).toBe(2);
  });

  it("is scaled, and its plan comes first", async () => {
    await badge(page).getByText("Ready").waitFor({ timeout: 60_000 });
    await page.locator(".page-title button:not([aria-disabled=true])", { hasText: "Scale" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("textbox", { name: "Members", exact: true }).fill("12");
    await dialog
      .getByText(/1 to 9|between 1 and 9/)
      .last()
      .waitFor();
    await dialog.getByRole("textbox", { name: "Members", exact: true }).fill("3");
    await dialog.getByText("Risk:").waitFor();
    await dialog.locator("button:not([aria-disabled=true])", { hasText: "Scale" }).click();
    await dialog.getByText("Succeeded").waitFor({ timeout: 100_000 });
    await dialog.getByRole("button", { name: "Close" }).last().click();
    await page.locator(".node").nth(2).waitFor({ timeout: 30_000 });
  });

  it("says why the log of a member cannot be read", async () => {
    await page.getByRole("tab", { name: "Logs" }).click();
    // The agent's chart gives it no right to read logs in a project unless somebody turns that on.
    await page.getByRole("alert").getByText("pods/log").waitFor({ timeout: 30_000 });
    await page.getByText("The log has ended.").waitFor();
  });

  it("shows the password only when it is asked for", async () => {
    await page.getByRole("tab", { name: "Connection" }).click();
    await page.getByRole("button", { name: "Show the password" }).click();
    await page.getByRole("button", { name: "Copy Password" }).waitFor();
  });

  it("goes on with a new token when the old one has ended", async () => {
    await page.goto(`${base}/services`);
    await page.getByRole("link", { name: id, exact: true }).waitFor();
    const refreshes: string[] = [];
    page.on("request", (request) => {
      if (request.url().endsWith("/Refresh")) refreshes.push(request.url());
    });
    await page.clock.install();
    await page.clock.fastForward(6 * 60_000);
    await page.getByRole("link", { name: "Clusters" }).first().click();
    await page.getByRole("link", { name: "local" }).waitFor();
    expect(refreshes.length).toBe(1);
  });

  it("is deleted after its name was typed, with its data", async () => {
    await page.goto(`${base}/services/demo/redisServices/${id}?tab=settings`);
    await page.locator("button:not([aria-disabled=true])", { hasText: /^Delete$/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("What happens to the data").selectOption({ label: "Delete data" });
    await dialog.getByText("all data are removed", { exact: false }).waitFor();
    const button = dialog.getByRole("button", { name: "Delete", exact: true });
    expect(await button.getAttribute("aria-disabled")).toBe("true");
    await dialog.getByLabel(`Type ${id} to confirm`).fill(id);
    await dialog.locator("button:not([aria-disabled=true])", { hasText: /^Delete$/ }).click();
    await dialog.getByText("Succeeded").waitFor({ timeout: 100_000 });
    await dialog.getByRole("button", { name: "Close" }).last().click();
    await page.getByText("This service is gone.").first().waitFor();
  });
});
