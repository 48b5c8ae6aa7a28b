import { Code } from "@connectrpc/connect";
import { useState } from "react";
import type { Entry } from "../../api/gen/upm/operatorlog/v1/operatorlog_pb";
import { Mono } from "../../components/Copy";
import { ToneIcon } from "../../components/Icon";
import { Facts } from "../../components/Page";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { differences, pretty } from "../../state/diff";
import { date, idOf } from "../../state/proto";

/** An entry; a click shows what was asked for and what changed. */
export function EntryRow({ entry }: { entry: Entry }) {
  const t = useT();
  const [open, setOpen] = useState(false);
  const name = entry.method.slice(entry.method.lastIndexOf("/") + 1);
  const good = entry.code === 0;
  return (
    <>
      <tr>
        <td>
          <Time at={date(entry.eventTime)} />
        </td>
        <td>{entry.principal === "" ? <span className="dim">{t("log.nobody")}</span> : idOf(entry.principal)}</td>
        <td>
          <button type="button" className="linkish" aria-expanded={open} onClick={() => setOpen(!open)}>
            {name}
          </button>
        </td>
        <td>
          <span className="clip" title={entry.resource}>
            {entry.resource}
          </span>
        </td>
        <td>
          <span className="state" data-tone={good ? "good" : "bad"}>
            <ToneIcon tone={good ? "good" : "bad"} />
            {good ? t("log.good") : entry.reason === "" ? (Code[entry.code] ?? String(entry.code)) : entry.reason}
          </span>
        </td>
        <td className="dim">{entry.sourceAddress}</td>
      </tr>
      {open && (
        <tr className="opened">
          <td colSpan={6}>
            <Details entry={entry} />
          </td>
        </tr>
      )}
    </>
  );
}

function Details({ entry }: { entry: Entry }) {
  const t = useT();
  const changes = differences(entry.diff);
  return (
    <div className="entry">
      <Facts
        facts={[
          [t("log.method"), <code key="m">{entry.method}</code>],
          [t("log.on"), entry.resource],
          [t("log.sequence"), String(entry.sequence)],
          [t("operation.trace"), <Mono key="t" text={entry.traceId} what={t("operation.trace")} />],
          [t("log.hash"), <Mono key="h" text={entry.hash} what={t("log.hash")} />],
        ]}
      />
      {changes.length > 0 && (
        <table className="data diff" aria-label={t("log.changed")}>
          <thead>
            <tr>
              <th scope="col">{t("log.field")}</th>
              <th scope="col">{t("log.before")}</th>
              <th scope="col">{t("log.after")}</th>
            </tr>
          </thead>
          <tbody>
            {changes.map((change) => (
              <tr key={change.path}>
                <td>
                  <code>{change.path}</code>
                </td>
                <td>{change.before !== "" && <del>{change.before}</del>}</td>
                <td>{change.after !== "" && <ins>{change.after}</ins>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {entry.request !== "" && (
        <>
          <h3>{t("log.request")}</h3>
          <pre tabIndex={0} aria-label={t("log.request")}>
            {pretty(entry.request)}
          </pre>
        </>
      )}
    </div>
  );
}
