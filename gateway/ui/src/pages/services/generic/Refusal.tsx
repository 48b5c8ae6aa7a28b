import { Mono } from "../../../components/Copy";
import { Unmet } from "../../../components/Failure";
import { ReasonButton } from "../../../components/Reason";
import { useT } from "../../../i18n";
import type { RefusalView } from "../model";

/** Why no primary is elected, what would help, and the way out that loses data. */
export function RefusedElection(props: {
  refusal: RefusalView;
  /** Why the loss cannot be accepted now. */
  reason: string | undefined;
  accept: (refusal: RefusalView) => void;
}) {
  const t = useT();
  const { refusal, reason, accept } = props;
  return (
    <section className="card danger" aria-label={t("refusal.title")}>
      <div className="card-head">
        <h2>{t("refusal.title")}</h2>
      </div>
      <p>{t("refusal.why")}</p>
      {refusal.missing.length > 0 && (
        <>
          <h3>{t("refusal.helps")}</h3>
          <Unmet unmet={refusal.missing.map((one) => ({ ...one, subject: one.reason }))} />
        </>
      )}
      <h3>{t("refusal.otherwise")}</h3>
      {refusal.candidate === "" ? (
        <p>{t("failover.nobody")}</p>
      ) : (
        <>
          <p>
            {t("failover.would", { member: refusal.candidate })} <strong>{refusal.loss}</strong>
          </p>
          <p className="dim">
            {t("failover.id")} <Mono text={refusal.lossId} what={t("failover.id")} />
          </p>
          <ReasonButton color="red" reason={reason} onClick={() => accept(refusal)}>
            {t("failover.open")}
          </ReasonButton>
        </>
      )}
    </section>
  );
}
