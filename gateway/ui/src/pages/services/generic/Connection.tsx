import { useMutation, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { problemOf } from "../../../api/problem";
import { Mono } from "../../../components/Copy";
import { Failure } from "../../../components/Failure";
import { Card, Facts, Loading } from "../../../components/Page";
import { ReasonButton } from "../../../components/Reason";
import { useT } from "../../../i18n";
import type { ServiceView } from "../model";

/** A password that was shown is taken away after this time, in milliseconds. */
const SHOWN = 60_000;

/** Addresses, user, command; the password only when asked for. */
export function Connection({ service, passwordReason }: { service: ServiceView; passwordReason: string | undefined }) {
  const t = useT();
  const { data, error, refetch } = useQuery({
    queryKey: ["connection", service.name],
    queryFn: ({ signal }) => service.engine.connection(service.name, signal),
  });
  const password = useMutation({ mutationFn: () => service.engine.password(service.name), gcTime: 0 });
  const { data: shown, reset } = password;
  useEffect(() => {
    if (shown === undefined) return;
    const timer = setTimeout(reset, SHOWN);
    return () => clearTimeout(timer);
  }, [shown, reset]);
  if (error) return <Failure problem={problemOf(error)} retry={() => void refetch()} />;
  if (!data) return <Loading rows={4} />;
  return (
    <Card title={t("service.connection")}>
      <Facts
        facts={[
          [t("connection.write"), <Mono key="w" text={data.readWrite} what={t("connection.write")} />],
          [t("connection.read"), <Mono key="r" text={data.readOnly} what={t("connection.read")} />],
          [t("login.user"), <Mono key="u" text={data.user} what={t("login.user")} />],
          [
            t("login.password"),
            shown === undefined ? (
              <ReasonButton
                key="p"
                variant="default"
                size="compact-sm"
                reason={passwordReason}
                loading={password.isPending}
                onClick={() => password.mutate()}
              >
                {t("connection.show")}
              </ReasonButton>
            ) : (
              <Mono key="p" text={shown} what={t("login.password")} />
            ),
          ],
          [t("connection.command"), <Mono key="c" text={data.command} what={t("connection.command")} />],
          [t("connection.secret"), <Mono key="s" text={data.secret} what={t("connection.secret")} />],
          ["TLS", data.ca === "" ? t("connection.noTls") : <Mono key="t" text={data.ca} what="CA" />],
        ]}
      />
      <p className="dim">{t("connection.audited")}</p>
      {password.error && <Failure problem={problemOf(password.error)} />}
    </Card>
  );
}
