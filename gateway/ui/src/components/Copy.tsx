import { useState } from "react";
import { useT } from "../i18n";
import { Icon } from "./Icon";

async function write(text: string): Promise<void> {
  // Pages without TLS have no clipboard; an old way works there.
  const clipboard = navigator.clipboard as Clipboard | undefined;
  if (clipboard) return clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- nothing else works there
  document.execCommand("copy");
  area.remove();
}

/** A button that copies. */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const t = useT();
  const [done, setDone] = useState(false);
  return (
    <button
      type="button"
      className="copy"
      aria-label={t("copy.what", { what })}
      title={t("copy.what", { what })}
      onClick={() => {
        void write(text).then(() => {
          setDone(true);
          setTimeout(() => setDone(false), 1_500);
        });
      }}
    >
      <Icon name={done ? "good" : "copy"} size={14} />
      <span role="status" className="visually-hidden">
        {done ? t("copy.done") : ""}
      </span>
    </button>
  );
}

/** An id or an address with its copy button. */
export function Mono({ text, what }: { text: string; what?: string }) {
  if (text === "") return <span className="dim">–</span>;
  return (
    <span className="mono-line">
      <code>{text}</code>
      <CopyButton text={text} what={what ?? text} />
    </span>
  );
}
