import { useEffect, useState } from "react";
import { Dialog } from "../../components/Dialog";
import { useT } from "../../i18n";

/** Whether somebody types into an element. */
function types(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

/** Goes to the next or the previous link of the page's tables. */
function move(by: 1 | -1): void {
  const links = [...document.querySelectorAll<HTMLElement>("table.data tbody a")].filter(
    (link) => link === link.closest("tr")?.querySelector("a"),
  );
  const at = links.indexOf(document.activeElement as HTMLElement);
  const next = links[at === -1 ? (by === 1 ? 0 : links.length - 1) : at + by];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/** The keys of every page: `Ctrl K`, `j`, `k`, `/`, `?`. */
export function Keys({ openPalette }: { openPalette: () => void }) {
  const t = useT();
  const [help, setHelp] = useState(false);
  useEffect(() => {
    function press(event: KeyboardEvent) {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        openPalette();
        return;
      }
      if (types(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "j") move(1);
      else if (event.key === "k") move(-1);
      else if (event.key === "?") setHelp(true);
      else if (event.key === "/") {
        event.preventDefault();
        document.querySelector<HTMLElement>("main input[type=search]")?.focus();
      }
    }
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [openPalette]);
  if (!help) return null;
  const keys: [string, string][] = [
    ["Ctrl K", t("keys.palette")],
    ["j / k", t("keys.rows")],
    ["Enter", t("keys.open")],
    ["/", t("keys.filter")],
    ["?", t("keys.help")],
    ["Esc", t("keys.close")],
  ];
  return (
    <Dialog title={t("keys.title")} close={() => setHelp(false)}>
      <table className="data keys">
        <tbody>
          {keys.map(([key, what]) => (
            <tr key={key}>
              <th scope="row">
                <kbd>{key}</kbd>
              </th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Dialog>
  );
}
