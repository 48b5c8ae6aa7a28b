import { Textarea } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { explain } from "../../../api/errors";
import { problemOf } from "../../../api/problem";
import { EnumSelect } from "../../../components/MessageForm";
import { Failure } from "../../../components/Failure";
import { Card } from "../../../components/Page";
import { ReasonButton } from "../../../components/Reason";
import { useT } from "../../../i18n";
import type { ServiceView } from "../model";
import { ActionDialog } from "./ActionDialog";
import type { useReasons } from "./reasons";

/** Settings that change at once, and what cannot be undone. */
export function DangerZone({ service, reasons }: { service: ServiceView; reasons: ReturnType<typeof useReasons> }) {
  const t = useT();
  const [deleting, setDeleting] = useState(false);
  return (
    <>
      <Settings service={service} reason={reasons.update} />
      <section className="card danger" aria-label={t("danger.title")}>
        <div className="card-head">
          <h2>{t("danger.title")}</h2>
        </div>
        <p>{t("danger.delete")}</p>
        <ReasonButton color="red" reason={reasons.delete} onClick={() => setDeleting(true)}>
          {t("danger.deleteButton")}
        </ReasonButton>
      </section>
      {deleting && <DeleteAction service={service} close={() => setDeleting(false)} />}
    </>
  );
}

function Settings({ service, reason }: { service: ServiceView; reason: string | undefined }) {
  const t = useT();
  const [description, setDescription] = useState(service.description);
  const [deletionPolicy, setPolicy] = useState(service.deletionPolicy);
  const save = useMutation({ mutationFn: () => service.engine.update(service, { description, deletionPolicy }) });
  const wrong = save.error ? explain(save.error).fields : new Map<string, string>();
  const same = description === service.description && deletionPolicy === service.deletionPolicy;
  const { engine } = service;
  return (
    <Card title={t("service.settings")}>
      <div className="form">
        <Textarea
          label={t("field.description")}
          autosize={false}
          value={description}
          onChange={(event) => setDescription(event.currentTarget.value)}
          error={wrong.get(`${engine.resourceField}.description`)}
        />
        <EnumSelect
          desc={engine.deletionPolicy}
          comments={engine.comments}
          label={t("field.deletionPolicy")}
          value={deletionPolicy}
          onChange={setPolicy}
          error={wrong.get(`${engine.resourceField}.deletion_policy`)}
        />
        {save.error && wrong.size === 0 && <Failure problem={problemOf(save.error)} />}
        <ReasonButton
          reason={reason ?? (same ? t("forbidden.unchanged") : undefined)}
          loading={save.isPending}
          onClick={() => save.mutate()}
        >
          {t("action.save")}
        </ReasonButton>
      </div>
    </Card>
  );
}

function DeleteAction({ service, close }: { service: ServiceView; close: () => void }) {
  const t = useT();
  const { engine } = service;
  const [policy, setPolicy] = useState(
    engine.deletionPolicy.values.find((one) => one.name === "KEEP_DATA")?.number ?? 0,
  );
  return (
    <ActionDialog
      title={t("danger.deleteTitle", { name: service.id })}
      confirm={t("danger.deleteButton")}
      danger
      typed={service.id}
      input={[service.name, policy]}
      run={(once, signal) => engine.delete(service, policy, once, signal)}
      close={close}
    >
      {(wrong) => (
        <>
          <EnumSelect
            desc={engine.deletionPolicy}
            comments={engine.comments}
            label={t("danger.policy")}
            value={policy}
            onChange={setPolicy}
            error={wrong.get("policy")}
            without={["DELETION_POLICY_UNSPECIFIED", "DO_NOT_DELETE"]}
          />
          <p>{t("danger.consequences", { n: service.members.length })}</p>
          <ul className="unmet">
            {[service.readWrite, service.readOnly].filter(Boolean).map((address) => (
              <li key={address}>
                <code>{address}</code> {t("danger.address")}
              </li>
            ))}
          </ul>
        </>
      )}
    </ActionDialog>
  );
}
