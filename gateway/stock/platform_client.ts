// The generated client of the platform's own API: set up, create, get, list, errors.
import createClient from "openapi-fetch";
import type { paths } from "./platform";

declare const process: { argv: string[]; env: Record<string, string | undefined> };

function assert(condition: boolean, found: unknown): asserts condition {
  if (!condition) throw new Error(`found ${JSON.stringify(found)}`);
}

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const stranger = await client.GET("/v1/projects");
assert(stranger.error?.error.status === "UNAUTHENTICATED", stranger);

const setup = await client.POST("/v1/auth:setup", {
  body: { setupToken: (process.env.TOKEN ?? "").trim(), userId: "admin", password: "a long password for a test" },
});
assert(setup.data?.accessToken !== undefined, setup.error);
const token = setup.data.accessToken;
client.use({
  onRequest({ request }) {
    request.headers.set("authorization", `Bearer ${token}`);
    return request;
  },
});

// The modules learn of the new administrator within moments; before the first word of the policy they refuse everybody.
const create = () => client.POST("/v1/projects", { params: { query: { projectId: "typed" } }, body: { displayName: "Made by a generated client" } });
let created = await create();
for (let attempt = 0; ["PERMISSION_DENIED", "UNAVAILABLE"].includes(created.error?.error.status ?? "") && attempt < 600; attempt++) {
  await new Promise((later) => setTimeout(later, 100));
  created = await create();
}
assert(created.data?.name === "projects/typed", created.error);
const got = await client.GET("/v1/projects/{project}", { params: { path: { project: "typed" } } });
assert(got.data?.displayName === "Made by a generated client" && got.data.createTime !== undefined, got);
const listed = await client.GET("/v1/projects", { params: { query: { pageSize: 10 } } });
assert(listed.data?.projects?.some((project) => project.name === "projects/typed") === true, listed);

const none = await client.GET("/v1/projects/{project}", { params: { path: { project: "none" } } });
assert(none.error?.error.code === 404 && none.error.error.status === "NOT_FOUND", none);
const again = await client.POST("/v1/projects", { params: { query: { projectId: "typed" } }, body: {} });
assert(again.error?.error.status === "ALREADY_EXISTS", again);
console.log("client openapi-fetch, set up, create, get, list, errors of the platform: ok");
