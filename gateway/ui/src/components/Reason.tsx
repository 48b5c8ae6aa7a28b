import { Button, type ButtonProps, Tooltip } from "@mantine/core";
import type { ReactNode } from "react";

interface Props extends ButtonProps {
  /** Why it cannot be used now; undefined when it can. */
  reason: string | undefined;
  onClick?: () => void;
  type?: "button" | "submit";
  children: ReactNode;
}

/** A button that says why it is disabled: on hover, on focus, and to screen readers. It stays in the order of focus. */
export function ReasonButton({ reason, onClick, children, type = "button", ...rest }: Props) {
  const button = (
    <Button
      {...rest}
      type={type}
      aria-disabled={reason !== undefined}
      data-disabled={reason !== undefined || undefined}
      aria-description={reason}
      onClick={(event) => {
        if (reason !== undefined) event.preventDefault();
        else onClick?.();
      }}
    >
      {children}
    </Button>
  );
  if (reason === undefined) return button;
  return (
    <Tooltip label={reason} multiline maw={360} events={{ hover: true, focus: true, touch: true }}>
      {button}
    </Tooltip>
  );
}
