import { Menu, NativeSelect, useMantineColorScheme } from "@mantine/core";
import { Link, Outlet, useNavigate } from "@tanstack/react-router";
import { Suspense, useState } from "react";
import { session, usePhase } from "../../auth/current";
import { Icon, type IconName } from "../../components/Icon";
import { Loading } from "../../components/Page";
import { choose, type Key, useLanguage, useT } from "../../i18n";
import { idOf } from "../../state/proto";
import { Expired } from "../login/Expired";
import { useServices } from "../services/engines";
import { Keys } from "./Keys";
import { Palette } from "./Palette";
import { usePageSearch } from "../../state/route";
import { useProjects } from "../../auth/lists";

const NAV: { to: string; text: Key; icon: IconName }[] = [
  { to: "/", text: "nav.overview", icon: "overview" },
  { to: "/services", text: "nav.services", icon: "services" },
  { to: "/operations", text: "nav.operations", icon: "operations" },
  { to: "/clusters", text: "nav.clusters", icon: "clusters" },
  { to: "/software", text: "nav.software", icon: "software" },
  { to: "/projects", text: "nav.projects", icon: "projects" },
  { to: "/access", text: "nav.access", icon: "access" },
  { to: "/log", text: "nav.log", icon: "log" },
];

/** What is around every page. */
export function Frame() {
  const t = useT();
  const phase = usePhase();
  const [palette, setPalette] = useState(false);
  return (
    <div className="frame">
      <a className="skip" href="#main">
        {t("frame.skip")}
      </a>
      <nav className="side" aria-label={t("frame.nav")}>
        <Link to="/" className="brand">
          <Icon name="services" size={20} /> UPM
        </Link>
        {NAV.map(({ to, text, icon }) => (
          <Link
            key={to}
            to={to}
            className="nav"
            activeOptions={{ exact: to === "/" }}
            activeProps={{ "aria-current": "page" }}
          >
            <Icon name={icon} /> <span>{t(text)}</span>
          </Link>
        ))}
      </nav>
      <header className="top">
        <ProjectFilter />
        <button type="button" className="search" onClick={() => setPalette(true)}>
          <Icon name="search" size={14} /> <span>{t("frame.search")}</span> <kbd>Ctrl K</kbd>
        </button>
        <span className="grow" />
        <Suspense>
          <Running />
        </Suspense>
        <Preferences />
        <Account />
      </header>
      <main id="main" tabIndex={-1}>
        <Suspense fallback={<Loading />}>
          <Outlet />
        </Suspense>
      </main>
      <Keys openPalette={() => setPalette(true)} />
      {palette && (
        <Suspense>
          <Palette close={() => setPalette(false)} />
        </Suspense>
      )}
      {phase === "expired" && <Expired />}
    </div>
  );
}

function ProjectFilter() {
  const t = useT();
  const navigate = useNavigate();
  const { project } = usePageSearch();
  const { data } = useProjects();
  const ids = data?.projects.map((one) => idOf(one.name)) ?? [];
  if (project !== undefined && !ids.includes(project)) ids.unshift(project);
  return (
    <NativeSelect
      size="xs"
      aria-label={t("frame.project")}
      value={project ?? ""}
      onChange={(event) => {
        const chosen = event.currentTarget.value;
        void navigate({
          to: ".",
          search: (before: object) => ({ ...before, project: chosen === "" ? undefined : chosen }),
        });
      }}
      data={[{ value: "", label: t("frame.allProjects") }, ...ids]}
    />
  );
}

/** How many operations go on, live: services say which operation works on them. */
function Running() {
  const t = useT();
  const { items } = useServices();
  const count = [...items.values()].filter((service) => service.operation !== "").length;
  return (
    <Link to="/operations" className="running" data-any={count > 0}>
      <Icon name={count > 0 ? "busy" : "operations"} size={14} /> {t("frame.running", { n: count })}
    </Link>
  );
}

function Preferences() {
  const t = useT();
  const language = useLanguage();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const dark = colorScheme === "dark" || (colorScheme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  return (
    <>
      <button
        type="button"
        className="tool"
        title={t("frame.language")}
        onClick={() => void choose(language === "en" ? "zh" : "en")}
      >
        <Icon name="language" />{" "}
        <span lang={language === "en" ? "zh" : "en"}>{language === "en" ? "中文" : "English"}</span>
      </button>
      <button
        type="button"
        className="tool"
        aria-label={dark ? t("frame.light") : t("frame.dark")}
        title={dark ? t("frame.light") : t("frame.dark")}
        onClick={() => setColorScheme(dark ? "light" : "dark")}
      >
        <Icon name={dark ? "light" : "dark"} />
      </button>
    </>
  );
}

function Account() {
  const t = useT();
  const user = idOf(session.user);
  return (
    <Menu position="bottom-end" withinPortal={false}>
      <Menu.Target>
        <button type="button" className="tool">
          <Icon name="access" /> {user}
        </button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item component={Link} {...{ to: "/account" }}>
          {t("nav.account")}
        </Menu.Item>
        <Menu.Item onClick={() => void session.logout()}>{t("action.logout")}</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
