import { useT } from "../i18n";
import type { OperationView, StepView } from "../state/operation";
import { span } from "../state/times";
import { State } from "./State";
import { useNow } from "./Time";

function Took({ step }: { step: StepView }) {
  const t = useT();
  const now = useNow();
  if (step.begun && step.state !== "STEP_PENDING") {
    const until = step.ended ?? (step.state === "STEP_RUNNING" ? now : undefined);
    return until ? <>{span(Math.max(0, until.getTime() - step.begun.getTime()))}</> : null;
  }
  return step.expected === undefined ? null : (
    <span className="dim">{t("plan.about", { span: span(step.expected) })}</span>
  );
}

/** The steps of an operation or of a plan, with the predicates that they wait for. */
export function Steps({ steps, plan = false }: { steps: StepView[]; plan?: boolean }) {
  const t = useT();
  return (
    <ol className="steps">
      {steps.map((step, index) => (
        <li key={`${index} ${step.name}`} data-state={step.state}>
          <div className="step-head">
            <span>
              {step.description}
              {step.attempts > 1 && <span className="dim"> · {t("plan.attempts", { n: step.attempts })}</span>}
            </span>
            <span className="step-side">
              <Took step={step} />
              {!plan && <State group="step" value={step.state} />}
            </span>
          </div>
          {step.pointOfNoReturn && <div className="no-return">{t("plan.noReturn")}</div>}
          <Predicates predicates={step.predicates} />
        </li>
      ))}
    </ol>
  );
}

/** Named predicates with the facts behind them. */
export function Predicates({ predicates }: { predicates: { name: string; satisfied: boolean; reason: string }[] }) {
  if (predicates.length === 0) return null;
  return (
    <ul className="predicates">
      {predicates.map((predicate) => (
        <li key={predicate.name}>
          <State group="yesno" value={predicate.satisfied ? "YES" : "NO"} />
          <span>
            <code>{predicate.name}</code> {predicate.reason}
          </span>
        </li>
      ))}
    </ul>
  );
}

/** What will happen, said first: risk, time, steps. */
export function Plan({ plan }: { plan: OperationView }) {
  const t = useT();
  return (
    <div className="plan">
      <p className="risk">
        <strong>{t("plan.risk")}</strong> {plan.risk}
      </p>
      {plan.expected !== undefined && (
        <p className="dim">
          {t("plan.expected", { span: span(plan.expected) })} · {t("plan.steps", { n: plan.steps.length })}
        </p>
      )}
      <Steps steps={plan.steps} plan />
    </div>
  );
}

/** How far an operation is. */
export function Progress({ percent, label }: { percent: number; label: string }) {
  return (
    <progress className="progress" max={100} value={percent} aria-label={label}>
      {percent} %
    </progress>
  );
}
