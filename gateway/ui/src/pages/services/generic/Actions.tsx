import { NativeSelect, NumberInput } from "@mantine/core";
import { useState } from "react";
import { useT } from "../../../i18n";
import { bytes } from "../../../state/quantities";
import type { RefusalView, ServiceView } from "../model";
import { ActionDialog } from "./ActionDialog";

/** Accepts the loss that was stated when the window was opened; another one that comes meanwhile is not accepted in its place. */
export function FailoverAction({ service, refusal, close }: Props & { refusal: RefusalView }) {
  const t = useT();
  return (
    <ActionDialog
      title={t("failover.title", { name: service.id })}
      confirm={t("failover.accept")}
      danger
      typed={refusal.lossId}
      input={[service.name, refusal.lossId, service.refusal?.lossId, String(service.epoch)]}
      run={(once, signal) => service.engine.failover(service, refusal.lossId, once, signal)}
      close={close}
    >
      {() => (
        <>
          <p>{t("failover.would", { member: refusal.candidate })}</p>
          <div className="notice" data-tone="bad">
            {refusal.loss}
          </div>
          <p>
            {t("failover.id")} <code>{refusal.lossId}</code>
          </p>
        </>
      )}
    </ActionDialog>
  );
}

interface Props {
  service: ServiceView;
  close: () => void;
}

export function RestartAction({ service, close }: Props) {
  const t = useT();
  return (
    <ActionDialog
      title={t("restart.title", { name: service.id })}
      confirm={t("action.restart")}
      input={[service.name]}
      run={(once, signal) => service.engine.restart(service, once, signal)}
      close={close}
    />
  );
}

export function ScaleAction({ service, close }: Props) {
  const t = useT();
  const [members, setMembers] = useState(service.size + 1);
  return (
    <ActionDialog
      title={t("scale.title", { name: service.id })}
      confirm={t("action.scale")}
      input={[service.name, members]}
      run={(once, signal) => service.engine.scale(service, members, once, signal)}
      close={close}
    >
      {(wrong) => (
        <NumberInput
          label={t("field.members")}
          description={t("scale.now", { n: service.size })}
          allowDecimal={false}
          value={members}
          onChange={(value) => setMembers(typeof value === "number" ? value : 0)}
          error={wrong.get("members")}
        />
      )}
    </ActionDialog>
  );
}

export function SwitchoverAction({ service, target: wished, close }: Props & { target: string }) {
  const t = useT();
  const [target, setTarget] = useState(wished);
  const replicas = service.members.filter((one) => one.name !== service.primary);
  return (
    <ActionDialog
      title={t("switchover.title", { name: service.id })}
      confirm={t("action.switchover")}
      input={[service.name, target, String(service.epoch)]}
      run={(once, signal) => service.engine.switchover(service, target, once, signal)}
      close={close}
    >
      {(wrong) => (
        <NativeSelect
          label={t("switchover.target")}
          description={t("switchover.from", { primary: service.primary, epoch: String(service.epoch) })}
          error={wrong.get("target")}
          value={target}
          onChange={(event) => setTarget(event.currentTarget.value)}
          data={[
            { value: "", label: t("switchover.best") },
            ...replicas.map((one) => ({
              value: one.name,
              label: one.lag === undefined ? one.name : `${one.name} · ${t("topology.lag", { lag: bytes(one.lag) })}`,
            })),
          ]}
        />
      )}
    </ActionDialog>
  );
}
