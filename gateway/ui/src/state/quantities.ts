const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes for people: `1.5 GiB`. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < BINARY.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : trim(value)} ${BINARY[unit] ?? ""}`;
}

/** Thousandths of a CPU for people: `500m`, `2`. */
export function cpus(millis: number): string {
  return millis % 1000 === 0 || millis >= 10_000 ? trim(millis / 1000) : `${millis}m`;
}

function trim(value: number): string {
  return String(Number(value.toFixed(value >= 100 ? 0 : 1)));
}

const FACTORS: Record<string, number> = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** The value of a Kubernetes quantity; undefined when it is none. */
export function quantity(text: string): number | undefined {
  const match = /^([0-9]+(?:\.[0-9]+)?)([mkMGTP]|[KMGTP]i)?$/.exec(text.trim());
  const factor = FACTORS[match?.[2] ?? ""];
  return match && factor !== undefined ? Number(match[1]) * factor : undefined;
}
