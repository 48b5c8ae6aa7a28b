import { NativeSelect, TextInput } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { Page } from "../../components/Page";
import { useT } from "../../i18n";
import { wordsOf } from "../../state/words";
import { useEngines, useServices } from "../services/engines";
import { OperationsTable } from "./OperationsTable";
import { usePageSearch } from "../../state/route";

export function OperationsPage() {
  const t = useT();
  const engines = useEngines();
  const navigate = useNavigate({ from: "/operations" });
  const { state = "", target = "" } = usePageSearch();
  const [typed, setTyped] = useState(target);
  const { items } = useServices();
  const set = (search: { state?: string; target?: string }) =>
    void navigate({ search: (before: object) => ({ ...before, ...search }), replace: true });
  return (
    <Page title={t("nav.operations")}>
      <form
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          set({ target: typed });
        }}
      >
        <TextInput
          type="search"
          className="wide-input"
          aria-label={t("operation.filterTarget")}
          placeholder={t("operation.filterTarget")}
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
          onBlur={() => typed !== target && set({ target: typed })}
        />
        <NativeSelect
          aria-label={t("services.state")}
          value={state}
          onChange={(event) => set({ state: event.currentTarget.value })}
          data={[
            { value: "", label: t("services.anyState") },
            ...wordsOf("operation").map(([value, word]) => ({ value, label: t(word.text) })),
          ]}
        />
      </form>
      {engines.map((engine) => (
        <OperationsTable
          key={engine.module}
          module={engine.module}
          target={target}
          state={state}
          current={[...items.values()].map((one) => one.operation).join()}
        />
      ))}
    </Page>
  );
}
