import { Link } from "@tanstack/react-router";
import { type ReactNode, useEffect } from "react";
import { useT } from "../i18n";

/** A page: breadcrumbs, title, actions, content. */
export function Page(props: {
  title: string;
  /** Links above the title. */
  crumbs?: { to: string; text: string }[];
  badge?: ReactNode;
  actions?: ReactNode;
  /** How fresh it is. */
  fresh?: ReactNode;
  children: ReactNode;
}) {
  const t = useT();
  useEffect(() => {
    document.title = `${props.title} · UPM`;
  }, [props.title]);
  return (
    <>
      <header className="page-head">
        {props.crumbs && (
          <nav aria-label={t("frame.crumbs")} className="crumbs">
            {props.crumbs.map((crumb) => (
              <span key={crumb.to}>
                <Link to={crumb.to}>{crumb.text}</Link> <span aria-hidden="true">/</span>{" "}
              </span>
            ))}
          </nav>
        )}
        <div className="page-title">
          <h1>{props.title}</h1>
          {props.badge}
          <span className="grow" />
          {props.fresh}
          <div className="actions">{props.actions}</div>
        </div>
      </header>
      {props.children}
    </>
  );
}

/** A part of a page. */
export function Card({ title, side, children }: { title: string; side?: ReactNode; children: ReactNode }) {
  return (
    <section className="card" aria-label={title}>
      <div className="card-head">
        <h2>{title}</h2>
        {side}
      </div>
      {children}
    </section>
  );
}

/** Names and values. */
export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value === "" || value === undefined ? <span className="dim">–</span> : value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Rows that will be there. */
export function Loading({ rows = 5 }: { rows?: number }) {
  const t = useT();
  return (
    <div className="skeletons" role="status" aria-label={t("live.loading")}>
      {Array.from({ length: rows }, (_, index) => (
        <div key={index} className="skeleton" />
      ))}
    </div>
  );
}
