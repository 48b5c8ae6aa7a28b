import { Tabs } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { Page } from "../../components/Page";
import { useT } from "../../i18n";
import { Bindings } from "./Bindings";
import { Roles } from "./Roles";
import { Users } from "./Users";
import { usePageSearch } from "../../state/route";

export function AccessPage() {
  const t = useT();
  const navigate = useNavigate({ from: "/access" });
  const { tab = "users" } = usePageSearch();
  return (
    <Page title={t("nav.access")}>
      <Tabs
        value={tab}
        keepMounted={false}
        onChange={(next) =>
          void navigate({ search: (before: object) => ({ ...before, tab: next ?? "users" }), replace: true })
        }
      >
        <Tabs.List>
          <Tabs.Tab value="users">{t("access.users")}</Tabs.Tab>
          <Tabs.Tab value="bindings">{t("access.bindings")}</Tabs.Tab>
          <Tabs.Tab value="roles">{t("access.roles")}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="users">
          <Users />
        </Tabs.Panel>
        <Tabs.Panel value="bindings">
          <Bindings project="" />
        </Tabs.Panel>
        <Tabs.Panel value="roles">
          <Roles />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}
