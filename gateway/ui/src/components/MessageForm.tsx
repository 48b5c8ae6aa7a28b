import { create, type DescEnum, type DescEnumValue, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { Checkbox, NativeSelect, NumberInput, TextInput } from "@mantine/core";
import type { ReactNode } from "react";
import { useT } from "../i18n";
import { enumLabel, fieldLabel } from "../state/labels";

/** A message's fields by their local names. */
export type Values = Record<string, unknown>;

/** What an editor of one field is given. */
export interface Editing {
  field: DescField;
  label: string;
  help: string;
  required: boolean;
  error: string | undefined;
  value: unknown;
  set: (value: unknown) => void;
  /** Path from the request's root, in proto names. */
  path: string;
}

interface Props {
  schema: DescMessage;
  value: Values;
  onChange: (value: Values) => void;
  /** Path of the message from the request's root; empty for the request itself. */
  path: string;
  /** What is wrong, by path. */
  wrong: ReadonlyMap<string, string>;
  /** What the API says of its fields: `Message.field`, `Enum.VALUE`. */
  comments: Record<string, string>;
  /** Editors that know more than the descriptor, by the field's proto name. */
  editors?: Record<string, (editing: Editing) => ReactNode>;
  hidden?: (field: DescField) => boolean;
  required?: (field: DescField) => boolean;
}

/** A form made from a descriptor. */
export function MessageForm(props: Props) {
  const { schema, value, comments, wrong, hidden } = props;
  return (
    <div className="form two">
      {schema.fields
        .filter((field) => !hidden?.(field))
        .map((field) => {
          const path = props.path === "" ? field.name : `${props.path}.${field.name}`;
          const set = (news: unknown) => props.onChange({ ...value, [field.localName]: news });
          return (
            <Field
              key={field.name}
              form={props}
              editing={{
                field,
                path,
                label: field.name,
                help: plain(comments[`${schema.name}.${field.name}`] ?? ""),
                required: props.required?.(field) ?? false,
                error: wrong.get(path),
                value: value[field.localName],
                set,
              }}
            />
          );
        })}
    </div>
  );
}

function Field({ form, editing: bare }: { form: Props; editing: Editing }) {
  const t = useT();
  const { field } = bare;
  const editing = { ...bare, label: fieldLabel(t, field.name) };
  const own = form.editors?.[field.name];
  if (own) return <>{own(editing)}</>;
  const { label, help, error, required, set } = editing;
  const shared = { label, description: help, error, required, withAsterisk: required };
  switch (field.fieldKind) {
    case "message":
      return (
        <fieldset className="group">
          <legend>{label}</legend>
          <MessageForm
            {...form}
            schema={field.message}
            path={editing.path}
            value={(editing.value ?? create(field.message)) as Values}
            onChange={set}
          />
        </fieldset>
      );
    case "enum":
      return (
        <EnumSelect
          {...shared}
          desc={field.enum}
          comments={form.comments}
          value={Number(editing.value ?? 0)}
          onChange={set}
        />
      );
    case "scalar":
      if (typeof editing.value === "boolean") {
        return (
          <Checkbox
            label={label}
            description={help}
            checked={editing.value}
            onChange={(event) => set(event.currentTarget.checked)}
          />
        );
      }
      if (typeof editing.value === "number") {
        return (
          <NumberInput
            {...shared}
            allowDecimal={false}
            value={editing.value}
            onChange={(news) => set(typeof news === "number" ? news : 0)}
          />
        );
      }
      return <TextInput {...shared} value={text(editing.value)} onChange={(event) => set(event.currentTarget.value)} />;
    case "list":
    case "map":
      return null;
  }
}

/** A choice of an enum's values with what each means. */
export function EnumSelect(props: {
  desc: DescEnum;
  comments: Record<string, string>;
  label: string;
  description?: string;
  error?: string | undefined;
  required?: boolean;
  value: number;
  onChange: (value: number) => void;
  /** Values that cannot be chosen here. */
  without?: string[];
}) {
  const t = useT();
  const { desc, comments } = props;
  // The comment of the value 0 names the value that it stands for.
  const standard = standsFor(desc, comments);
  const chosen = props.value === 0 && standard ? standard : desc.values.find((one) => one.number === props.value);
  const meaning = chosen && plain(comments[`${desc.name}.${chosen.name}`] ?? "");
  return (
    <NativeSelect
      label={props.label}
      description={props.description}
      error={props.error}
      required={props.required ?? false}
      value={String(props.value)}
      onChange={(event) => props.onChange(Number(event.currentTarget.value))}
      data={desc.values
        .filter((one) => !props.without?.includes(one.name))
        .map((one) => ({
          value: String(one.number),
          label:
            one.number !== 0
              ? enumLabel(t, one.name)
              : standard
                ? t("form.defaultIs", { value: enumLabel(t, standard.name) })
                : t("form.default"),
        }))}
      {...(meaning && { description: [props.description, meaning].filter(Boolean).join(" — ") })}
    />
  );
}

function standsFor(desc: DescEnum, comments: Record<string, string>): DescEnumValue | undefined {
  const zero = desc.values.find((one) => one.number === 0);
  const comment = zero && comments[`${desc.name}.${zero.name}`]?.replace(/\.$/, "");
  return desc.values.find((one) => one.name === comment);
}

/** The text of a value; empty for everything else. */
export const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** A comment without its code marks. */
export const plain = (comment: string): string => comment.replaceAll("`", "");
