import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import { useT } from "../i18n";
import { Icon } from "./Icon";

/** What an error says, without knowing the API. */
export interface Problem {
  kind: "forbidden" | "missing" | "away" | "other";
  message: string;
  reason: string;
  unmet: { name: string; subject: string; reason: string }[];
}

/** An error with its reason, what is not met, and a way to try again. */
export function Failure({ problem, retry }: { problem: Problem; retry?: () => void }) {
  const t = useT();
  const titles = {
    forbidden: t("error.forbidden"),
    missing: t("error.missing"),
    away: t("error.away"),
    other: t("error.other"),
  };
  return (
    <div className="failure" role="alert" data-kind={problem.kind}>
      <Icon name={problem.kind === "forbidden" ? "warn" : "bad"} />
      <div>
        <strong>{titles[problem.kind]}</strong>
        <p>{problem.message}</p>
        <Unmet unmet={problem.unmet} />
        {problem.reason !== "" && <code className="dim">{problem.reason}</code>}
      </div>
      {retry && problem.kind !== "forbidden" && (
        <Button variant="default" size="compact-sm" onClick={retry}>
          {t("action.retry")}
        </Button>
      )}
    </div>
  );
}

/** Predicates that do not hold, in words. */
export function Unmet({ unmet }: { unmet: Problem["unmet"] }) {
  if (unmet.length === 0) return null;
  return (
    <ul className="unmet">
      {unmet.map((one) => (
        <li key={`${one.name} ${one.subject}`}>
          <code>{one.name}</code> {one.reason}
        </li>
      ))}
    </ul>
  );
}

/** A place where something will be, or why there is nothing. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <strong>{title}</strong>
      {children}
    </div>
  );
}
