import type { Tone } from "../state/words";

const PATHS = {
  overview: "M3 3h6v8H3zM11 3h6v5h-6zM11 10h6v7h-6zM3 13h6v4H3z",
  services:
    "M10 3c4 0 7 1.1 7 2.5S14 8 10 8 3 6.9 3 5.500 6 3 10 3zM3 5.500V14.500C3 15.900 6 17 10 17s7-1.100 7-2.500V5.500M3 10c0 1.400 3 2.500 7 2.500s7-1.100 7-2.500",
  operations: "M10 3a7 7 0 1 0 7 7M10 6v4l3 2M17 3v4h-4",
  clusters:
    "M10 2.500l6.500 3.750v7.500L10 17.500l-6.500-3.750v-7.500zM10 10l6.500-3.750M10 10v7.500M10 10L3.500 6.250",
  software: "M3 7l7-4 7 4-7 4zM3 7v6l7 4 7-4V7M10 11v6",
  projects: "M3 5h5l2 2h7v9H3z",
  access: "M10 10a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM3.500 17c.5-3.500 3-5 6.500-5s6 1.500 6.500 5",
  log: "M5 3h10v14H5zM7.500 7h5M7.500 10h5M7.500 13h3",
  good: "M4 10.500l4 4 8-9",
  busy: "M10 3a7 7 0 0 1 7 7",
  warn: "M10 3l8 14H2zM10 8v4M10 14.200v.3",
  bad: "M5 5l10 10M15 5L5 15",
  idle: "M4 10h12",
  copy: "M7 7h9v9H7zM4 13V4h9",
  search: "M9 4a5 5 0 1 0 0 10A5 5 0 0 0 9 4zM12.700 12.700L17 17",
  plus: "M10 4v12M4 10h12",
  light:
    "M10 6.500a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7zM10 1.500v2M10 16.500v2M1.500 10h2M16.500 10h2M4 4l1.400 1.400M14.600 14.600L16 16M4 16l1.400-1.400M14.600 5.400L16 4",
  dark: "M16 12.500A7 7 0 0 1 7.500 4a7 7 0 1 0 8.500 8.500z",
  language:
    "M10 2.500a7.500 7.500 0 1 0 0 15 7.500 7.500 0 0 0 0-15zM2.500 10h15M10 2.500c-5 5-5 10 0 15M10 2.500c5 5 5 10 0 15",
  chevron: "M7 4l6 6-6 6",
  menu: "M3 5h14M3 10h14M3 15h14",
} as const;

export type IconName = keyof typeof PATHS;

/** A drawing beside a word; never alone. */
export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" className="icon" focusable="false">
      <path
        d={PATHS[name]}
        fill="none"
        stroke="currentColor"
        strokeWidth="1.8"
        strokeLinejoin="round"
        strokeLinecap="round"
      />
    </svg>
  );
}

/** The shape of a tone. */
export function ToneIcon({ tone }: { tone: Tone }) {
  return <Icon name={tone} size={13} />;
}
