import { NativeSelect } from "@mantine/core";
import { useEffect, useState } from "react";
import { AgentAdminService } from "../../../api/gen/upm/hub/v1/ledger_service_pb";
import { Lines } from "../../../api/lines";
import { problemOf } from "../../../api/problem";
import { api } from "../../../auth/current";
import { usePermissions } from "../../../auth/permissions";
import { Failure } from "../../../components/Failure";
import { KEPT, LogView } from "../../../components/LogView";
import { Card } from "../../../components/Page";
import { useT } from "../../../i18n";
import { idOf } from "../../../state/proto";
import type { ServiceView } from "../model";

/** Lines that were written before. */
const PAST = 500n;
/** Lines of so many milliseconds are shown together. */
const BATCH = 100;

/** The log of a member, live, through the cluster's agent; nothing is stored. */
export function Logs({ service }: { service: ServiceView }) {
  const t = useT();
  const [chosen, setChosen] = useState(service.primary);
  const names = service.members.map((one) => one.name);
  const pod = names.includes(chosen) ? chosen : (names[0] ?? "");
  const { tailAgentLog } = AgentAdminService.method;
  const { allowed, permission } = usePermissions("", [tailAgentLog])(tailAgentLog);
  return (
    <Card
      title={t("logs.title")}
      side={
        <NativeSelect
          size="xs"
          aria-label={t("logs.member")}
          value={pod}
          onChange={(event) => setChosen(event.currentTarget.value)}
          data={names}
        />
      }
    >
      {allowed === false ? (
        <p>{t("forbidden.platform", { permission })}</p>
      ) : allowed && pod !== "" ? (
        <Tail key={pod} agent={`agents/${idOf(service.cluster)}`} namespace={service.project} pod={pod} />
      ) : null}
    </Card>
  );
}

function Tail({ agent, namespace, pod }: { agent: string; namespace: string; pod: string }) {
  const t = useT();
  const [lines, setLines] = useState<readonly string[]>([]);
  const [state, setState] = useState<"live" | "ended">("live");
  const [error, setError] = useState<unknown>();
  const [life, setLife] = useState(0);
  useEffect(() => {
    const cut = new AbortController();
    // A log has no place to resume at: a tail that begins again shows its lines anew, and none twice.
    setLines([]);
    setState("live");
    setError(undefined);
    let waiting: string[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      timer = undefined;
      const news = waiting;
      waiting = [];
      if (news.length > 0) setLines((before) => [...before, ...news].slice(-KEPT));
    };
    const take = (news: string[]) => {
      waiting.push(...news);
      timer ??= setTimeout(show, BATCH);
    };
    void (async () => {
      const parts = new Lines();
      try {
        const asked = { name: agent, namespace, pod, tailLines: PAST, follow: true };
        for await (const { data } of api.agents.tailAgentLog(asked, { signal: cut.signal })) take(parts.take(data));
        take(parts.end());
      } catch (failed) {
        if (cut.signal.aborted) return;
        setError(failed);
      }
      if (!cut.signal.aborted) setState("ended");
    })();
    return () => {
      cut.abort();
      clearTimeout(timer);
    };
  }, [agent, namespace, pod, life]);
  const again = () => setLife((before) => before + 1);
  return (
    <>
      {error !== undefined && <Failure problem={problemOf(error)} retry={again} />}
      <LogView
        label={t("logs.of", { pod })}
        lines={lines}
        side={
          <span className="freshness" data-link={state} role="status">
            {state === "live" ? t("live.connected") : t("logs.ended")}
            {state === "ended" && (
              <button type="button" className="linkish" onClick={again}>
                {t("logs.again")}
              </button>
            )}
          </span>
        }
      />
    </>
  );
}
