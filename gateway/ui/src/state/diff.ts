/** One line of a difference. */
export interface Difference {
  path: string;
  before: string;
  after: string;
}

/** What an entry's `diff` says: `{field: {before, after}}`, at any depth; anything else is shown as a new value. */
export function differences(json: string): Difference[] {
  if (json === "") return [];
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    // The log cuts diffs at 8 KiB.
    return [{ path: "", before: "", after: json }];
  }
  const found: Difference[] = [];
  walk(value, "", found);
  return found;
}

function walk(value: unknown, path: string, found: Difference[]): void {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const record = value as Record<string, unknown>;
    if ("before" in record || "after" in record) {
      found.push({ path, before: text(record["before"]), after: text(record["after"]) });
      return;
    }
    for (const [key, inner] of Object.entries(record)) walk(inner, path === "" ? key : `${path}.${key}`, found);
    return;
  }
  found.push({ path, before: "", after: text(value) });
}

function text(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 1);
}

/** JSON for people; what is no JSON stays as it is. */
export function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
