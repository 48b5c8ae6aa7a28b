import type { Link, Picture, Watch } from "./watch";

/** From the best to the worst. */
const ORDER: Link[] = ["ended", "connected", "connecting", "resuming", "stale", "failed"];

/** Several watches as one picture. Keys of different watches do not meet. */
export class Merged<T> {
  private last: Picture<T>[] = [];
  private picture: Picture<T> = { items: new Map(), ready: false, link: "connecting", changed: new Map() };

  constructor(private readonly watches: Watch<T>[]) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    const ends = this.watches.map((watch) => watch.subscribe(listener));
    return () => {
      for (const end of ends) end();
    };
  };

  readonly get = (): Picture<T> => {
    const now = this.watches.map((watch) => watch.get());
    if (now.length !== this.last.length || now.some((picture, at) => picture !== this.last[at])) {
      this.last = now;
      this.picture = merge(now);
    }
    return this.picture;
  };

  readonly retry = (): void => {
    for (const watch of this.watches) watch.retry();
  };
}

/** The sum of pictures: ready when all are, as fresh as the oldest. */
export function merge<T>(pictures: Picture<T>[]): Picture<T> {
  const [only, more] = pictures;
  if (only && !more) return only;
  const link = pictures.reduce<Link>(
    (worst, { link }) => (ORDER.indexOf(link) > ORDER.indexOf(worst) ? link : worst),
    "ended",
  );
  const since = pictures.flatMap((picture) => picture.since ?? []).sort((a, b) => a.getTime() - b.getTime())[0];
  return {
    items: new Map(pictures.flatMap((picture) => [...picture.items])),
    changed: new Map(pictures.flatMap((picture) => [...picture.changed])),
    ready: pictures.every((picture) => picture.ready),
    link,
    ...(since && { since }),
    error: pictures.find((picture) => picture.error !== undefined)?.error,
  };
}
