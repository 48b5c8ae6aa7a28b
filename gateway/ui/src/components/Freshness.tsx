import { useLanguage, useT } from "../i18n";
import { clock } from "../state/times";
import { Icon } from "./Icon";

/** How fresh a page is: says nothing more than a dot while it is live. */
export function Freshness({ link, since, retry }: { link: string; since?: Date; retry?: () => void }) {
  const t = useT();
  const language = useLanguage();
  const at = since ? clock(since, language) : "";
  if (link === "connected") {
    return (
      <span className="freshness" data-link={link} role="status">
        <span className="dot" /> {t("live.connected")}
      </span>
    );
  }
  if (link === "resuming" || link === "connecting") {
    return (
      <span className="freshness" data-link={link} role="status">
        <Icon name="busy" size={13} /> {t("live.resuming")}
      </span>
    );
  }
  if (link === "stale") {
    return (
      <span className="freshness" data-link={link} role="status">
        <Icon name="warn" size={13} /> {t("live.stale", { at })}
        {retry && (
          <button type="button" className="linkish" onClick={retry}>
            {t("action.retry")}
          </button>
        )}
      </span>
    );
  }
  return null;
}

/** For what the API has no stream for: says so. */
export function AsOf({ at, refresh }: { at: number; refresh: () => void }) {
  const t = useT();
  const language = useLanguage();
  return (
    <span className="freshness" data-link="asked">
      {at > 0 ? t("live.asOf", { at: clock(new Date(at), language) }) : ""}
      <button type="button" className="linkish" onClick={refresh} title={t("live.asOfWhy")}>
        {t("action.refresh")}
      </button>
    </span>
  );
}
