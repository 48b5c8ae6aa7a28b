import { Button, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useMemo, useState } from "react";
import { uuid } from "../../../api/base";
import { explain } from "../../../api/errors";
import type { Operation } from "../../../api/gen/upm/operation/v1/operation_pb";
import { operationView } from "../../../api/operations";
import { problemOf } from "../../../api/problem";
import { Dialog } from "../../../components/Dialog";
import { Failure } from "../../../components/Failure";
import { Loading } from "../../../components/Page";
import { ReasonButton } from "../../../components/Reason";
import { Plan } from "../../../components/Steps";
import { useT } from "../../../i18n";
import { Follow } from "../../operations/Follow";
import type { Once } from "../model";

interface Props {
  title: string;
  confirm: string;
  danger?: boolean;
  /** What has to be typed before it can be confirmed. */
  typed?: string;
  /** What the plan depends on. */
  input: unknown[];
  run: (once: Once, signal?: AbortSignal) => Promise<Operation>;
  close: () => void;
  /** Called when the operation was accepted. */
  accepted?: () => void;
  /** Fields; is told what is wrong, by path. */
  children?: (wrong: ReadonlyMap<string, string>) => ReactNode;
}

/** The plan of an action, asked again whenever its input changes. */
export function usePlan(key: unknown[], run: Props["run"], enabled = true) {
  const [settled] = useDebouncedValue(JSON.stringify(key), 300);
  const plan = useQuery({
    queryKey: ["plan", settled],
    queryFn: ({ signal }) => run({ validateOnly: true, requestId: "" }, signal),
    enabled,
    placeholderData: keepPreviousData,
    staleTime: 0,
    gcTime: 0,
    retry: false,
  });
  const current = settled === JSON.stringify(key) && !plan.isPlaceholderData && !plan.isFetching;
  const wrong = useMemo(() => (plan.error ? explain(plan.error).fields : new Map<string, string>()), [plan.error]);
  return {
    plan: plan.data && operationView(plan.data),
    error: plan.error,
    wrong,
    current,
    again: () => void plan.refetch(),
  };
}

/** An action: its plan first, then, confirmed, its operation with live steps. */
export function ActionDialog(props: Props) {
  const t = useT();
  const queries = useQueryClient();
  const { plan, error, wrong, current, again } = usePlan([props.title, ...props.input], props.run);
  const [typed, setTyped] = useState("");
  // The same request, sent twice because an answer was lost, is done once.
  const requestId = useMemo(uuid, [JSON.stringify(props.input)]);
  const mutation = useMutation({
    mutationFn: () => props.run({ validateOnly: false, requestId }),
    onSuccess: () => {
      props.accepted?.();
      void queries.invalidateQueries({ queryKey: ["operations"] });
    },
  });
  if (mutation.data) {
    return (
      <Dialog title={props.title} close={props.close}>
        <Follow name={mutation.data.name} compact />
        <footer>
          <Button onClick={props.close}>{t("action.close")}</Button>
        </footer>
      </Dialog>
    );
  }
  const failed = mutation.error ?? (wrong.size > 0 ? null : error);
  const reason =
    error || !plan
      ? t("plan.notPossible")
      : props.typed !== undefined && typed !== props.typed
        ? t("danger.typeFirst", { name: props.typed })
        : !current
          ? t("plan.beingMade")
          : undefined;
  return (
    <Dialog title={props.title} close={props.close}>
      {props.children?.(wrong)}
      {failed && <Failure problem={problemOf(failed)} retry={again} />}
      {wrong.size > 0 && !props.children && (
        <ul className="unmet">
          {[...wrong].map(([field, why]) => (
            <li key={field}>
              <code>{field}</code> {why}
            </li>
          ))}
        </ul>
      )}
      {!plan && !error && <Loading rows={3} />}
      {plan && !error && <Plan plan={plan} />}
      {props.typed !== undefined && !error && (
        <TextInput
          label={t("danger.type", { name: props.typed })}
          autoComplete="off"
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
        />
      )}
      <footer>
        <Button variant="default" onClick={props.close}>
          {t("action.cancel")}
        </Button>
        <ReasonButton
          reason={reason}
          {...(props.danger && { color: "red" })}
          loading={mutation.isPending}
          onClick={() => mutation.mutate()}
        >
          {props.confirm}
        </ReasonButton>
      </footer>
    </Dialog>
  );
}
