// The generated client of the API of our tests: create, get, list, errors.
import createClient from "openapi-fetch";
import type { paths } from "./echo";

declare const process: { argv: string[] };

function assert(condition: boolean, found: unknown): asserts condition {
  if (!condition) throw new Error(`found ${JSON.stringify(found)}`);
}

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
for (const noteId of ["typed-a", "typed-b", "typed-c"]) {
  const { data, error } = await client.POST("/v1/notes", { params: { query: { noteId } }, body: { title: `the title of ${noteId}`, size: "5" } });
  assert(data?.name === `notes/${noteId}`, error);
}
const got = await client.GET("/v1/notes/{note}", { params: { path: { note: "typed-a" } } });
assert(got.data?.size === "9007199254740993", got);

const titles: string[] = [];
let pageToken: string | undefined = "";
do {
  const page: { data?: { notes?: { title?: string }[]; nextPageToken?: string } } = await client.GET("/v1/notes", { params: { query: { pageSize: 2, pageToken } } });
  assert(page.data !== undefined, page);
  titles.push(...(page.data.notes ?? []).map((note) => note.title ?? ""));
  pageToken = page.data.nextPageToken;
} while (pageToken);
assert(titles.filter((title) => title.startsWith("the title of typed-")).length === 3, titles);

const none = await client.GET("/v1/notes/{note}", { params: { path: { note: "none" } } });
assert(none.data === undefined && none.error?.error.status === "NOT_FOUND" && none.error.error.code === 404, none.error);
const negative = await client.GET("/v1/notes", { params: { query: { pageSize: -1 } } });
assert(negative.error?.error.status === "INVALID_ARGUMENT", negative.error);
console.log("client openapi-fetch, create, get, list, errors of the echo API: ok");
