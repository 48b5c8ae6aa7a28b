// Runs page.mjs in Chromium, and looks at /docs: GATEWAY DESCRIPTORS.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const [gateway, descriptors] = process.argv.slice(2);
const screenshots = process.env.SCREENSHOTS;
const ok = (client, what) => console.log(`client ${client}, ${what}: ok`);

const bundle = await build({
  entryPoints: [fileURLToPath(new URL("page.mjs", import.meta.url))],
  bundle: true, write: false, format: "iife", target: "es2022", logLevel: "error",
});
const files = {
  "/": ["text/html", "<!doctype html><title>Clients</title><script src=page.js></script>"],
  "/page.js": ["text/javascript", bundle.outputFiles[0].text],
  "/api.pb": ["application/octet-stream", await readFile(descriptors)],
};
const site = createServer((request, response) => {
  const [type, content] = files[request.url] ?? ["text/plain", ""];
  response.writeHead(files[request.url] ? 200 : 404, { "content-type": type }).end(content);
});
await new Promise((listening) => site.listen(0, "127.0.0.1", listening));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  timeout: 120_000,
});
try {
  await clients();
  await docs();
} finally {
  await browser.close();
  site.close();
}

/** Pages of another origin that call the gateway. */
async function clients() {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(`page: ${error}`));
  page.setDefaultTimeout(120_000);
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  const name = `Chromium ${browser.version()}`;
  for (const [client, cases] of Object.entries(await page.evaluate(() => globalThis.cases()))) {
    for (const one of cases) {
      const failure = await page.evaluate(([address, client, one]) => globalThis.run(address, client, one), [gateway, client, one]);
      assert.equal(failure, "", `${client}, ${one}`);
      ok(`${client} in ${name}`, one);
    }
  }
  await page.close();
}

/** The page of the gateway itself: complete, usable by keyboard, in both schemes, and nothing of it breaks its own policy. */
async function docs() {
  const name = "Chromium, /docs";
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  page.setDefaultTimeout(60_000);
  const complaints = [];
  const foreign = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => request.url().startsWith(`http://${gateway}/`) || request.url().startsWith("data:") || foreign.push(request.url()));
  const response = await page.goto(`http://${gateway}/docs`);
  assert.match(response.headers()["content-security-policy"], /default-src 'none'/);
  const document = await (await fetch(`http://${gateway}/openapi.json`)).json();
  const operations = Object.values(document.paths).flatMap((item) => Object.values(item));
  await page.waitForSelector("details.operation");
  assert.equal(await page.locator("details.operation").count(), operations.length);
  ok(name, `${operations.length} operations`);

  await page.keyboard.press("/");
  await page.keyboard.type("create");
  await page.waitForFunction(() => document.getElementById("found").textContent.startsWith("1 of"));
  const focus = () => page.evaluate(() => document.activeElement.closest("details")?.id ?? "");
  for (let tabs = 0; tabs < 20 && (await focus()) !== "Echo_CreateNote"; tabs++) await page.keyboard.press("Tab");
  assert.equal(await focus(), "Echo_CreateNote");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#Echo_CreateNote[open] form");
  await page.fill("#Echo_CreateNote textarea", JSON.stringify({ title: "by keyboard" }));
  await page.locator("#Echo_CreateNote input").first().fill("docs");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#Echo_CreateNote pre").textContent.includes("by keyboard"));
  ok(name, "filter, open, send by keyboard");

  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  if (screenshots) await page.screenshot({ path: `${screenshots}/docs-light.png` });
  await page.emulateMedia({ colorScheme: "dark" });
  assert.notEqual(await ground(), light);
  if (screenshots) {
    await page.fill("#filter", "");
    await page.screenshot({ path: `${screenshots}/docs-dark.png` });
  }
  await page.setViewportSize({ width: 400, height: 800 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it is wider than a phone");
  if (screenshots) await page.screenshot({ path: `${screenshots}/docs-phone.png` });
  assert.deepEqual(foreign, []);
  assert.deepEqual(complaints, []);
  ok(name, "light, dark and narrow, nothing from elsewhere, nothing against its policy");
  await page.close();
}
