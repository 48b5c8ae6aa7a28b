/** Something that can be gone to. */
export interface Target {
  to: string;
  text: string;
  more: string;
  state?: string;
}

/** What has all words, best first: those that begin with the search, then by length. */
export function found(targets: Target[], search: string): Target[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const first = words[0] ?? "";
  return targets
    .filter((target) => {
      const text = `${target.text} ${target.more}`.toLowerCase();
      return words.every((word) => text.includes(word));
    })
    .map((target) => ({ target, rank: (target.text.toLowerCase().startsWith(first) ? 0 : 1_000) + target.text.length }))
    .sort((a, b) => (first === "" ? 0 : a.rank - b.rank))
    .map(({ target }) => target);
}
