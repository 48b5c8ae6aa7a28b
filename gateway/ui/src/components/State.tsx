import { useT } from "../i18n";
import { wordOf } from "../state/words";
import { ToneIcon } from "./Icon";

/** A state: colour, shape and word. `value` is the name of the API's enum value. */
export function State({ group, value, title }: { group: string; value: string; title?: string }) {
  const t = useT();
  const word = wordOf(group, value);
  return (
    <span className="state" data-tone={word.tone} title={title} data-value={value}>
      <ToneIcon tone={word.tone} />
      {t(word.text)}
    </span>
  );
}
