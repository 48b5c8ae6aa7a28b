import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adminPassword, badge, base, close, launch, login, watched } from "./world";

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(async () => {
  await browser.close();
});

/** Makes a user with a role in the project `demo`, by the pages of an administrator. */
async function give(admin: Page, user: string, password: string, role: string): Promise<void> {
  await admin.goto(`${base}/access`);
  await admin.getByRole("button", { name: "New user" }).click();
  await admin.getByRole("dialog").getByRole("textbox", { name: "Id", exact: true }).fill(user);
  await admin.getByRole("dialog").locator("input[type=password]").fill(password);
  await admin.getByRole("dialog").getByRole("button", { name: "Create" }).click();
  await admin.getByRole("cell", { name: user }).waitFor();
  await admin.getByRole("tab", { name: "Role bindings" }).click();
  await admin.getByRole("button", { name: "Give a role" }).click();
  const dialog = admin.getByRole("dialog");
  await dialog.getByRole("textbox", { name: "User", exact: true }).fill(user);
  await dialog.getByLabel("Where").selectOption("projects/demo");
  await dialog.getByRole("combobox", { name: "Role", exact: true }).selectOption(`roles/${role}`);
  await dialog.getByRole("button", { name: "Give a role" }).click();
  await admin.getByRole("cell", { name: user }).waitFor();
}

describe("a viewer", () => {
  const user = `viewer-${Date.now().toString(36)}`;
  const passwords = ["first password 1", "second password 2"] as const;
  let admin: Page;
  let context: BrowserContext;
  let faults: string[];
  beforeAll(async () => {
    ({ context, faults } = await watched(browser));
    admin = await context.newPage();
    await login(admin, "admin", adminPassword());
    await give(admin, user, passwords[0], "project-viewer");
  });
  afterAll(async () => {
    await close(context, faults);
  });

  it("sees what is forbidden, with the reason", async () => {
    const own = await watched(browser);
    const page = await own.context.newPage();
    await login(page, user, passwords[0]);
    await page.goto(`${base}/services/demo/redisServices/demo`);
    await badge(page).getByText("Ready").waitFor();
    const restart = page.getByRole("button", { name: "Restart" });
    await page.locator("[aria-description*='redis.services.restart']").waitFor();
    await restart.hover();
    await page.getByRole("tooltip").getByText("redis.services.restart").waitFor();
    await restart.click({ force: true });
    expect(await page.getByRole("dialog").count()).toBe(0);
    await page.goto(`${base}/log`);
    await page.getByText("You may not see this").waitFor();

    // The password is set anew: this session ends, and what was typed stays.
    await page.goto(`${base}/services/new`);
    await page.getByLabel("Description").fill("typed before the end");
    await admin.getByRole("tab", { name: "Users" }).click();
    await admin.getByRole("row", { name: user }).getByRole("button", { name: "Reset password" }).click();
    await admin.getByRole("dialog").locator("input[type=password]").fill(passwords[1]);
    await admin.getByRole("dialog").getByRole("button", { name: "Reset password" }).click();
    await admin.getByRole("dialog").waitFor({ state: "detached" });
    await page.clock.install();
    await page.clock.fastForward(6 * 60_000);
    await page.getByLabel("Description").fill("typed before the end!");
    await page.evaluate(() => dispatchEvent(new Event("visibilitychange")));
    await page.getByText("Your session has ended").waitFor();
    await page.locator("dialog input[autocomplete=current-password]").fill(passwords[1]);
    await page.locator("dialog").getByRole("button", { name: "Log in", exact: true }).click();
    await page.locator("dialog").waitFor({ state: "detached" });
    expect(await page.getByLabel("Description").inputValue()).toBe("typed before the end!");
    await close(own.context, own.faults);
  });

  it("is logged out in all tabs at once", async () => {
    const own = await watched(browser);
    const [one, two] = [await own.context.newPage(), await own.context.newPage()];
    await login(one, user, passwords[1]);
    await two.goto(`${base}/services`);
    await two.getByRole("heading", { name: "Services" }).waitFor();
    await one.getByRole("button", { name: user }).click();
    await one.getByRole("menuitem", { name: "Log out" }).click();
    await two.getByRole("heading", { name: "Log in" }).waitFor();
    await close(own.context, own.faults);
  });
});

describe("an operator", () => {
  it("may what an operator may, and is told what not", async () => {
    const user = `operator-${Date.now().toString(36)}`;
    const password = "an operator's words";
    const admin = await watched(browser);
    const page = await admin.context.newPage();
    await login(page, "admin", adminPassword());
    await give(page, user, password, "project-operator");
    await close(admin.context, admin.faults);

    const own = await watched(browser);
    const mine = await own.context.newPage();
    await login(mine, user, password);
    await mine.goto(`${base}/services/demo/redisServices/demo`);
    await mine.locator(".page-title button:not([aria-disabled=true])", { hasText: "Restart" }).click();
    await mine.getByRole("dialog").getByText("Risk:").waitFor();
    await mine.keyboard.press("Escape");
    await mine.getByRole("tab", { name: "Settings" }).click();
    const deleting = mine.getByRole("button", { name: "Delete", exact: true });
    await mine.locator("section.danger [aria-description*='redis.services.delete']").waitFor();
    await deleting.click({ force: true });
    expect(await mine.getByRole("dialog").count()).toBe(0);
    await mine.goto(`${base}/clusters/local`);
    await mine.getByText("You may not see this").first().waitFor();
    await close(own.context, own.faults);
  });
});
