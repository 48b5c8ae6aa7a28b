import { useParams, useSearch } from "@tanstack/react-router";

/** What URLs carry beside the path. */
export type Search = Partial<
  Record<"project" | "q" | "state" | "tab" | "target" | "filter" | "live" | "from" | "since" | "until", string>
>;

/** The search parameters of the page; each route keeps only its own. */
export const usePageSearch = (): Search => useSearch({ strict: false });

/** The parameters in the path of the page; those that the route does not have are empty. */
export function usePageParams(): (name: string) => string {
  const params: Record<string, string | undefined> = useParams({ strict: false });
  return (name) => params[name] ?? "";
}
