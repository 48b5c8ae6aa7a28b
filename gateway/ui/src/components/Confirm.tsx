import { Button, TextInput } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { useT } from "../i18n";
import { Dialog } from "./Dialog";
import { Failure, type Problem } from "./Failure";
import { ReasonButton } from "./Reason";

/** Asks before something is done at once. Without `run` it only shows. */
export function ConfirmDialog(props: {
  title: string;
  text?: string;
  confirm?: string;
  danger?: boolean;
  /** What has to be typed first. */
  typed?: string;
  run?: () => Promise<unknown>;
  done?: () => void;
  problem?: (error: unknown) => Problem;
  close: () => void;
  children?: ReactNode;
}) {
  const t = useT();
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  async function act() {
    setBusy(true);
    setProblem(undefined);
    try {
      await props.run?.();
      props.close();
      props.done?.();
    } catch (error) {
      setProblem(props.problem?.(error));
    } finally {
      setBusy(false);
    }
  }
  return (
    <Dialog title={props.title} close={props.close}>
      {props.text !== undefined && <p>{props.text}</p>}
      {props.children}
      {props.typed !== undefined && (
        <TextInput
          label={t("danger.type", { name: props.typed })}
          autoComplete="off"
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
        />
      )}
      {problem && <Failure problem={problem} />}
      <footer>
        <Button variant="default" onClick={props.close}>
          {props.run ? t("action.cancel") : t("action.close")}
        </Button>
        {props.run && (
          <ReasonButton
            {...(props.danger && { color: "red" })}
            loading={busy}
            reason={
              props.typed !== undefined && typed !== props.typed
                ? t("danger.typeFirst", { name: props.typed })
                : undefined
            }
            onClick={() => void act()}
          >
            {props.confirm}
          </ReasonButton>
        )}
      </footer>
    </Dialog>
  );
}
