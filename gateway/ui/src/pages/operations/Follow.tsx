import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { follow } from "../../api/follow";
import { problemOf } from "../../api/problem";
import { useWatch } from "../../api/watch";
import { api } from "../../auth/current";
import { Failure } from "../../components/Failure";
import { Freshness } from "../../components/Freshness";
import { Loading } from "../../components/Page";
import { State } from "../../components/State";
import { Progress, Steps } from "../../components/Steps";
import { useT } from "../../i18n";

/** An operation, live. */
export function useOperation(name: string) {
  const watch = useMemo(() => follow(api.operations, name), [name]);
  const picture = useWatch(watch);
  return { operation: picture.items.get(name), picture, retry: watch.retry };
}

/** Where `/operations/{module}/{operation}` is. */
export function OperationLink({ name, text }: { name: string; text: string }) {
  const [, module = "", operation = ""] = name.split("/");
  return (
    <Link to="/operations/$module/$operation" params={{ module, operation }}>
      {text}
    </Link>
  );
}

/** How an operation goes: state, progress, steps. */
export function Follow({ name, compact = false }: { name: string; compact?: boolean }) {
  const t = useT();
  const { operation, picture, retry } = useOperation(name);
  if (!operation) {
    return picture.error === undefined ? (
      <Loading rows={3} />
    ) : (
      <Failure problem={problemOf(picture.error)} retry={retry} />
    );
  }
  return (
    <div className="follow">
      <div className="follow-head">
        <State group="operation" value={operation.state} />
        <Progress percent={operation.percent} label={t("operation.progress")} />
        <span>{operation.percent} %</span>
        {compact && <OperationLink name={name} text={t("operation.open")} />}
        <span className="grow" />
        {!operation.done && (
          <Freshness link={picture.link} retry={retry} {...(picture.since && { since: picture.since })} />
        )}
      </div>
      {operation.error !== "" && (
        <p role="alert" className="form-error">
          {operation.error}
        </p>
      )}
      <Steps steps={operation.steps} />
    </div>
  );
}
