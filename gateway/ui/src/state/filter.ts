/** AIP-160 over what is set. */
export function operationFilter(wanted: { target?: string; state?: string }): string {
  return [wanted.target && `target="${wanted.target}"`, wanted.state && `state=${wanted.state}`]
    .filter(Boolean)
    .join(" AND ");
}

/** AIP-160 over the log: what was typed, and the times between which entries are. Times as a `datetime-local` field has them, in the viewer's zone. */
export function logFilter(wanted: { filter?: string; since?: string; until?: string }): string {
  const at = (text: string | undefined) => {
    const time = text ? new Date(text) : undefined;
    return time && !Number.isNaN(time.getTime()) ? time.toISOString() : undefined;
  };
  const since = at(wanted.since);
  const until = at(wanted.until);
  return [wanted.filter, since && `event_time>="${since}"`, until && `event_time<="${until}"`]
    .filter(Boolean)
    .join(" AND ");
}
