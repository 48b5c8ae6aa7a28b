/** AIP-160 over what is set. */
export function operationFilter(wanted: { target?: string; state?: string }): string {
  return [wanted.target && `target="${wanted.target}"`, wanted.state && `state=${wanted.state}`]
    .filter(Boolean)
    .join(" AND ");
}
