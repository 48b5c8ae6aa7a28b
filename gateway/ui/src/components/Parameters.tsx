import { NativeSelect, Switch, TextInput } from "@mantine/core";
import { useState } from "react";
import { useT } from "../i18n";
import { matching, type ParameterView, range, setParameter } from "../state/parameters";

interface Props {
  parameters: ParameterView[];
  /** Values over the package's defaults. */
  set: Readonly<Record<string, string>>;
  /** Not given: only shown. */
  onChange?: (set: Record<string, string>) => void;
  /** What is wrong with a value, by key. */
  wrong?: (key: string) => string | undefined;
}

/** All parameters of a package: search, what differs from the default, what needs a restart. */
export function Parameters({ parameters, set, onChange, wrong }: Props) {
  const t = useT();
  const [search, setSearch] = useState("");
  const [onlyChanged, setOnlyChanged] = useState(false);
  const shown = matching(parameters, search).filter((one) => !onlyChanged || one.key in set);
  return (
    <div className="parameters">
      <div className="filters">
        <TextInput
          type="search"
          aria-label={t("parameters.search")}
          placeholder={t("parameters.search")}
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
        />
        <Switch
          label={t("parameters.onlyChanged", { n: Object.keys(set).length })}
          checked={onlyChanged}
          onChange={(event) => setOnlyChanged(event.currentTarget.checked)}
        />
        <span className="dim">{t("parameters.count", { n: shown.length, all: parameters.length })}</span>
      </div>
      <div className="parameter-list" role="group" aria-label={t("field.parameters")} tabIndex={0}>
        <table className="data">
          <thead>
            <tr>
              <th scope="col">{t("parameters.name")}</th>
              <th scope="col">{t("parameters.value")}</th>
              <th scope="col">{t("parameters.range")}</th>
              <th scope="col">{t("parameters.apply")}</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((one) => (
              <tr key={one.key} data-set={one.key in set || undefined}>
                <td>
                  <code>{one.key}</code>
                  <div className="dim">{one.description}</div>
                </td>
                <td>
                  <Value parameter={one} set={set} onChange={onChange} error={wrong?.(one.key)} />
                </td>
                <td className="dim">{range(one)}</td>
                <td className="dim">{one.dynamic ? t("parameters.dynamic") : t("parameters.restart")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function Value(props: {
  parameter: ParameterView;
  set: Readonly<Record<string, string>>;
  onChange: Props["onChange"];
  error: string | undefined;
}) {
  const t = useT();
  const { parameter, set, onChange, error } = props;
  const { key, defaultValue } = parameter;
  if (!onChange) {
    const own = set[key];
    return own === undefined ? (
      <code>{defaultValue === "" ? "–" : defaultValue}</code>
    ) : (
      <span className="differs">
        <del title={t("parameters.default")}>{defaultValue}</del> <code>{own}</code>
      </span>
    );
  }
  const change = (value: string) => onChange(setParameter(set, parameter, value));
  const choices = parameter.type === "Boolean" ? ["yes", "no"] : parameter.values;
  if (choices.length > 0) {
    return (
      <NativeSelect
        aria-label={key}
        size="xs"
        error={error}
        value={set[key] ?? ""}
        onChange={(event) => change(event.currentTarget.value)}
        data={[
          { value: "", label: t("parameters.isDefault", { value: defaultValue }) },
          ...choices.filter((one) => one !== defaultValue),
        ]}
      />
    );
  }
  return (
    <TextInput
      aria-label={key}
      size="xs"
      error={error}
      value={set[key] ?? ""}
      placeholder={defaultValue}
      onChange={(event) => change(event.currentTarget.value)}
    />
  );
}
