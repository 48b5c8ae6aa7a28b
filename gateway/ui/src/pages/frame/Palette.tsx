import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { Dialog } from "../../components/Dialog";
import { State } from "../../components/State";
import { useT } from "../../i18n";
import { idOf } from "../../state/proto";
import { found, type Target } from "../../state/search";
import { useServices } from "../services/engines";
import { useClusters, useProjects } from "../../auth/lists";

/** Search over everything; arrows choose, Enter opens. */
export function Palette({ close }: { close: () => void }) {
  const t = useT();
  const navigate = useNavigate();
  const { items } = useServices();
  const [search, setSearch] = useState("");
  const [at, setAt] = useState(0);
  const clusters = useClusters();
  const projects = useProjects();
  const pages: [string, string][] = [
    ["/", t("nav.overview")],
    ["/services", t("nav.services")],
    ["/services/new", t("services.new")],
    ["/operations", t("nav.operations")],
    ["/clusters", t("nav.clusters")],
    ["/clusters/new", t("clusters.join")],
    ["/software", t("nav.software")],
    ["/projects", t("nav.projects")],
    ["/access", t("nav.access")],
    ["/log", t("nav.log")],
    ["/account", t("nav.account")],
  ];
  const targets: Target[] = [
    ...[...items.values()].map((one) => ({
      to: `/services/${one.name.slice("projects/".length)}`,
      text: one.id,
      more: `${one.project} · ${one.engine.title}`,
      state: one.state,
    })),
    ...(clusters.data?.clusters ?? []).map((one) => ({
      to: `/clusters/${idOf(one.name)}`,
      text: idOf(one.name),
      more: t("nav.clusters"),
    })),
    ...(projects.data?.projects ?? []).map((one) => ({
      to: `/projects/${idOf(one.name)}`,
      text: idOf(one.name),
      more: t("nav.projects"),
    })),
    ...pages.map(([to, text]) => ({ to, text, more: t("palette.page") })),
  ];
  const shown = found(targets, search).slice(0, 12);
  const chosen = Math.min(at, shown.length - 1);
  function open(target: Target | undefined) {
    if (!target) return;
    close();
    void navigate({ to: target.to });
  }
  return (
    <Dialog title={t("frame.search")} close={close}>
      <input
        type="search"
        className="palette-input"
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={shown.length > 0 ? `palette-${chosen}` : undefined}
        aria-label={t("frame.search")}
        placeholder={t("palette.hint")}
        autoFocus
        value={search}
        onChange={(event) => {
          setSearch(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt(Math.min(chosen + 1, shown.length - 1));
          else if (event.key === "ArrowUp") setAt(Math.max(chosen - 1, 0));
          else if (event.key === "Enter") open(shown[chosen]);
          else return;
          event.preventDefault();
        }}
      />
      <ul id="palette-list" role="listbox" aria-label={t("frame.search")} className="palette">
        {shown.map((target, index) => (
          <li
            key={target.to}
            id={`palette-${index}`}
            role="option"
            aria-selected={index === chosen}
            onClick={() => open(target)}
          >
            <span>{target.text}</span>
            <span className="dim">{target.more}</span>
            {target.state !== undefined && <State group="service" value={target.state} />}
          </li>
        ))}
      </ul>
      {shown.length === 0 && <p className="dim">{t("palette.nothing")}</p>}
    </Dialog>
  );
}
