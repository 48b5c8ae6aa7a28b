import type { JoinCommand } from "../../api/gen/upm/resource/v1/resource_pb";
import { CopyButton, Mono } from "../../components/Copy";
import { Card, Facts } from "../../components/Page";
import { Time } from "../../components/Time";
import { useT } from "../../i18n";
import { date } from "../../state/proto";

/** How an agent joins; the token is shown once. */
export function JoinSteps({ join }: { join: JoinCommand }) {
  const t = useT();
  return (
    <Card title={t("join.run")}>
      <p>{t("join.how")}</p>
      <div className="command">
        <pre tabIndex={0} aria-label={t("connection.command")}>
          {join.command}
        </pre>
        <CopyButton text={join.command} what={t("connection.command")} />
      </div>
      <Facts
        facts={[
          [t("join.token"), <Mono key="t" text={join.token} what={t("join.token")} />],
          [t("join.expires"), <Time key="e" at={date(join.expireTime)} />],
          [t("join.pin"), <Mono key="p" text={join.caPin} what={t("join.pin")} />],
          [t("join.endpoints"), join.endpoints.join(", ")],
        ]}
      />
    </Card>
  );
}
