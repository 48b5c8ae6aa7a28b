import { date, millis } from "../state/proto";
import type { OperationView } from "../state/operation";
import { type Operation, OperationState, StepState } from "./gen/upm/operation/v1/operation_pb";

/** An operation as pages show it. */
export function operationView(operation: Operation): OperationView {
  const time = (key: "created" | "started" | "ended" | "deadline" | "begun", at: Date | undefined) =>
    at ? { [key]: at } : {};
  const expected = (span: number | undefined) => (span === undefined ? {} : { expected: span });
  return {
    name: operation.name,
    kind: operation.kind,
    target: operation.target,
    state: OperationState[operation.state],
    done: operation.done,
    percent: operation.progressPercent,
    principal: operation.principal,
    cancellable: operation.cancellable,
    risk: operation.risk,
    revision: operation.revision,
    traceId: operation.traceId,
    error: operation.result.case === "error" ? operation.result.value.message : "",
    ...time("created", date(operation.createTime)),
    ...time("started", date(operation.startTime)),
    ...time("ended", date(operation.endTime)),
    ...time("deadline", date(operation.deadline)),
    ...expected(millis(operation.expectedDuration)),
    steps: operation.steps.map((step) => ({
      name: step.name,
      description: step.description,
      state: StepState[step.state],
      attempts: step.attempts,
      pointOfNoReturn: step.pointOfNoReturn,
      predicates: step.predicates.map(({ name, satisfied, reason }) => ({ name, satisfied, reason })),
      ...time("begun", date(step.startTime)),
      ...time("ended", date(step.endTime)),
      ...expected(millis(step.expectedDuration)),
    })),
  };
}
