import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { expect } from "vitest";

const root = join(import.meta.dirname, "../../..");
const home = process.env["UPM_HOME"] ?? join(process.env["HOME"] ?? "", ".local/share/upm");
const target = process.env["CARGO_TARGET_DIR"] ?? join(root, "target");

/** The platform of `make up`. */
export const base = `http://${process.env["UPM_API_ADDRESS"] ?? "127.0.0.1:8080"}`;
export const upm = join(target, "debug/upm");
export const adminPassword = (): string => readFileSync(join(home, "admin-password"), "utf8");

/** A command of the command line's login. */
export function cli(...args: string[]): string {
  return execFileSync(upm, args, { encoding: "utf8", env: { ...process.env, UPM_CONFIG: join(home, "login.json") } });
}

/** A line of the scripts that keep the platform of `make up`: `kubectl` is that of its cluster. */
export function script(line: string, ...values: string[]): string {
  const whole = `set -eu; HERE=${root}/integration; ROOT=${root}; . "$HERE/installation.sh"; ${line}`;
  return execFileSync("bash", ["-c", whole, "bash", ...values], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** Ends the platform's process, gateway and all, and starts it again. */
export const restartPlatform = (): string => script("platform_stop; platform_up");

/** What Chromium, as Debian packages it, is started with. */
export const BROWSER = {
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
};

export const launch = (): Promise<Browser> => chromium.launch(BROWSER);

/** What no page may do: break its policy, fail, call elsewhere. */
export async function watched(browser: Browser, colors: "light" | "dark" = "light", locale = "en-US") {
  const context = await browser.newContext({
    viewport: { width: 1360, height: 900 },
    locale,
    colorScheme: colors,
    reducedMotion: "reduce",
  });
  const faults: string[] = [];
  await context.exposeFunction("upmFault", (what: string) => faults.push(what));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => {
      const tell = (window as unknown as { upmFault: (what: string) => void }).upmFault;
      tell(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
    });
  });
  context.on("page", (page) => {
    page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
    page.on("request", (request) => {
      const { protocol, hostname } = new URL(request.url());
      if (protocol.startsWith("http") && hostname !== "127.0.0.1") faults.push(`foreign: ${request.url()}`);
    });
  });
  return { context, faults };
}

export async function login(page: Page, user: string, password: string, at = base): Promise<void> {
  await page.goto(`${at}/login`);
  await fillLogin(page, user, password);
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
}

export async function fillLogin(page: Page, user: string, password: string): Promise<void> {
  await page.getByLabel("User").fill(user);
  await page.locator("input[autocomplete=current-password]").fill(password);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
}

/** How the service's badge reads. */
export const badge = (page: Page) => page.locator(".page-title .state");

export async function close(context: BrowserContext, faults: string[]): Promise<void> {
  await context.close();
  expect(faults).toEqual([]);
}
