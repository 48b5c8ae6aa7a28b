/** More pages than this are taken for a server that never ends. */
const MOST = 1_000;

/** All pages of a list as one: for choices and catalogues, which must not end at the first page. `key` is the field that holds the items. */
export async function everything<K extends string, P extends { nextPageToken: string } & Record<K, unknown[]>>(
  key: K,
  ask: (pageToken: string) => Promise<P>,
): Promise<P> {
  const whole = await ask("");
  let { nextPageToken } = whole;
  for (let page = 1; nextPageToken !== ""; page += 1) {
    if (page >= MOST) throw new Error(`a list of more than ${MOST} pages`);
    const more = await ask(nextPageToken);
    whole[key].push(...more[key]);
    nextPageToken = more.nextPageToken;
  }
  whole.nextPageToken = "";
  return whole;
}
