import { type Duration, type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

/** A moment; undefined when the API did not say one. */
export const date = (at: Timestamp | undefined): Date | undefined => at && timestampDate(at);

/** Milliseconds. */
export const millis = (duration: Duration | undefined): number | undefined =>
  duration && Number(duration.seconds) * 1000 + duration.nanos / 1e6;

/** The last part of a resource name: `demo` of `projects/demo`. */
export const idOf = (name: string): string => name.slice(name.lastIndexOf("/") + 1);

/** The project of a resource name, as `projects/{project}`; empty when it has none. */
export const projectOf = (name: string): string => /^projects\/[^/]+/.exec(name)?.[0] ?? "";

/** `projects/{project}/{collection}/{service}`, taken apart. */
export function serviceParts(name: string): { project: string; collection: string; service: string } | undefined {
  const [head, project, collection, service, more] = name.split("/");
  if (head !== "projects" || !project || !collection || !service || more !== undefined) return undefined;
  return { project, collection, service };
}
