/** A step as pages show it. */
export interface StepView {
  name: string;
  description: string;
  /** Name of the API's enum value. */
  state: string;
  begun?: Date;
  ended?: Date;
  /** Milliseconds. */
  expected?: number;
  attempts: number;
  pointOfNoReturn: boolean;
  predicates: { name: string; satisfied: boolean; reason: string }[];
}

/** An operation, or a plan of one. */
export interface OperationView {
  /** `operations/{module}/{operation}`; empty for a plan. */
  name: string;
  kind: string;
  target: string;
  state: string;
  done: boolean;
  percent: number;
  principal: string;
  created?: Date;
  started?: Date;
  ended?: Date;
  deadline?: Date;
  cancellable: boolean;
  risk: string;
  revision: bigint;
  /** Milliseconds. */
  expected?: number;
  traceId: string;
  /** Why it failed; empty when it did not. */
  error: string;
  steps: StepView[];
}
