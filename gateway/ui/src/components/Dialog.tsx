import { type ReactNode, useEffect, useId, useRef } from "react";
import { useT } from "../i18n";
import { Icon } from "./Icon";

/** A window over the page: the browser's own, so that focus stays in it and Escape closes it. */
export function Dialog(props: {
  title: string;
  /** Not given: it cannot be closed. */
  close?: () => void;
  wide?: boolean;
  children: ReactNode;
}) {
  const t = useT();
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
    return () => element?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      className="dialog"
      data-wide={props.wide ?? undefined}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        props.close?.();
      }}
    >
      <header>
        <h2 id={id}>{props.title}</h2>
        {props.close && (
          <button type="button" className="tool" aria-label={t("action.close")} onClick={props.close}>
            <Icon name="bad" />
          </button>
        )}
      </header>
      <div className="dialog-body">{props.children}</div>
    </dialog>
  );
}
