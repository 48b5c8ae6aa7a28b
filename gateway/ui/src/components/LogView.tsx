import { Switch, TextInput } from "@mantine/core";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { useT } from "../i18n";

/** More lines than these are not kept. */
export const KEPT = 5_000;

/** Lines of a log as text, newest below; follows the end until the viewer scrolls up. */
export function LogView({ label, lines, side }: { label: string; lines: readonly string[]; side?: ReactNode }) {
  const t = useT();
  const [search, setSearch] = useState("");
  const [follows, setFollows] = useState(true);
  const box = useRef<HTMLPreElement>(null);
  const shown = useMemo(() => {
    const wanted = search.toLowerCase();
    return wanted === "" ? lines : lines.filter((line) => line.toLowerCase().includes(wanted));
  }, [lines, search]);
  useEffect(() => {
    if (follows && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [shown, follows]);
  return (
    <>
      <div className="filters">
        <TextInput
          type="search"
          aria-label={t("logs.filter")}
          placeholder={t("logs.filter")}
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
        />
        <Switch
          label={t("logs.follow")}
          checked={follows}
          onChange={(event) => setFollows(event.currentTarget.checked)}
        />
        <span className="dim">{t("parameters.count", { n: shown.length, all: lines.length })}</span>
        <span className="grow" />
        {side}
      </div>
      <pre
        ref={box}
        tabIndex={0}
        role="log"
        aria-label={label}
        className="log-lines"
        onWheel={(event) => event.deltaY < 0 && setFollows(false)}
      >
        {shown.join("\n")}
      </pre>
    </>
  );
}
