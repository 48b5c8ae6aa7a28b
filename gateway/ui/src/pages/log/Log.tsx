import { Button, Switch, TextInput } from "@mantine/core";
import { useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { type Entry, OperatorLogService } from "../../api/gen/upm/operatorlog/v1/operatorlog_pb";
import { problemOf } from "../../api/problem";
import { useWatch } from "../../api/watch";
import { api } from "../../auth/current";
import { usePermissions } from "../../auth/permissions";
import { Empty, Failure } from "../../components/Failure";
import { AsOf, Freshness } from "../../components/Freshness";
import { Loading, Page } from "../../components/Page";
import { ReasonButton } from "../../components/Reason";
import { useT } from "../../i18n";
import { EntryRow } from "./EntryRow";
import { tail } from "./tail";
import { logFilter } from "../../state/filter";
import { usePageSearch } from "../../state/route";

export function LogPage() {
  const t = useT();
  const navigate = useNavigate({ from: "/log" });
  const { filter = "", live, since = "", until = "" } = usePageSearch();
  const whole = logFilter({ filter, since, until });
  const [typed, setTyped] = useState(filter);
  const may = usePermissions("", [OperatorLogService.method.verifyEntries]);
  const { allowed, permission } = may(OperatorLogService.method.verifyEntries);
  const verify = useMutation({ mutationFn: () => api.log.verifyEntries({}) });
  const set = (search: { filter?: string; live?: string; since?: string; until?: string }) =>
    void navigate({ search: (before: object) => ({ ...before, ...search }), replace: true });
  return (
    <Page
      title={t("nav.log")}
      actions={
        <ReasonButton
          variant="default"
          size="compact-md"
          reason={allowed === false ? t("forbidden.platform", { permission }) : undefined}
          loading={verify.isPending}
          onClick={() => verify.mutate()}
        >
          {t("log.verify")}
        </ReasonButton>
      }
    >
      {verify.error && <Failure problem={problemOf(verify.error)} />}
      {verify.data && (
        <div className="notice" data-tone={verify.data.intact ? "good" : "bad"} role="status">
          {verify.data.intact
            ? t("log.intact", { n: String(verify.data.checked) })
            : t("log.broken", { sequence: String(verify.data.brokenSequence), problem: verify.data.problem })}{" "}
          <code>{verify.data.headHash}</code>
        </div>
      )}
      <form
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          set({ filter: typed });
        }}
      >
        <TextInput
          type="search"
          className="wide-input"
          aria-label={t("log.filter")}
          placeholder={t("log.filterHint")}
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
        />
        <Button type="submit" variant="default" size="compact-md">
          {t("log.search")}
        </Button>
        <TextInput
          type="datetime-local"
          aria-label={t("log.since")}
          title={t("log.since")}
          value={since}
          onChange={(event) => set({ since: event.currentTarget.value })}
        />
        <TextInput
          type="datetime-local"
          aria-label={t("log.until")}
          title={t("log.until")}
          value={until}
          onChange={(event) => set({ until: event.currentTarget.value })}
        />
        <Switch
          label={t("log.live")}
          checked={live === "yes"}
          onChange={(event) => set({ live: event.currentTarget.checked ? "yes" : "" })}
        />
      </form>
      {live === "yes" ? <Tail key={whole} filter={whole} /> : <Past filter={whole} />}
    </Page>
  );
}

function Past({ filter }: { filter: string }) {
  const t = useT();
  const pages = useInfiniteQuery({
    queryKey: ["log", filter],
    queryFn: ({ pageParam, signal }) => api.log.listEntries({ filter, pageToken: pageParam, pageSize: 50 }, { signal }),
    initialPageParam: "",
    getNextPageParam: (page) => (page.nextPageToken === "" ? undefined : page.nextPageToken),
    retry: false,
  });
  if (pages.error && !pages.data)
    return <Failure problem={problemOf(pages.error)} retry={() => void pages.refetch()} />;
  if (!pages.data) return <Loading />;
  const entries = pages.data.pages.flatMap((page) => page.entries);
  return (
    <>
      <p className="table-note">
        <AsOf at={pages.dataUpdatedAt} refresh={() => void pages.refetch()} />
      </p>
      <Entries entries={entries} />
      {pages.hasNextPage && (
        <Button variant="default" loading={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
          {t("action.more")}
        </Button>
      )}
    </>
  );
}

function Tail({ filter }: { filter: string }) {
  const watch = useMemo(() => tail(api.log, filter), [filter]);
  const { items, link, since, error } = useWatch(watch);
  if (link === "failed") return <Failure problem={problemOf(error)} retry={watch.retry} />;
  return (
    <>
      <p className="table-note">
        <Freshness link={link} retry={watch.retry} {...(since && { since })} />
      </p>
      <Entries entries={[...items.values()].reverse()} />
    </>
  );
}

function Entries({ entries }: { entries: Entry[] }) {
  const t = useT();
  if (entries.length === 0) return <Empty title={t("log.none")} />;
  return (
    <div className="table-frame">
      <table className="data" aria-label={t("nav.log")}>
        <thead>
          <tr>
            <th scope="col">{t("log.when")}</th>
            <th scope="col">{t("operation.principal")}</th>
            <th scope="col">{t("log.what")}</th>
            <th scope="col">{t("log.on")}</th>
            <th scope="col">{t("log.result")}</th>
            <th scope="col">{t("log.from")}</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((entry) => (
            <EntryRow key={entry.name} entry={entry} />
          ))}
        </tbody>
      </table>
    </div>
  );
}
