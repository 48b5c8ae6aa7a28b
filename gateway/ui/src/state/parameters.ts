/** A parameter of a software package. */
export interface ParameterView {
  key: string;
  /** `Integer`, `Float`, `Boolean`, `String`, `Enumeration`. */
  type: string;
  /** Whether the server takes it without a restart. */
  dynamic: boolean;
  minimum: string;
  maximum: string;
  values: string[];
  defaultValue: string;
  description: string;
}

/** Which parameters to show: those whose name or description has all words. */
export function matching(parameters: ParameterView[], search: string): ParameterView[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return parameters.filter((one) => {
    const text = `${one.key} ${one.description}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Sets a parameter; an empty value, or the default, takes it out again. */
export function setParameter(
  set: Readonly<Record<string, string>>,
  parameter: ParameterView,
  value: string,
): Record<string, string> {
  const others = Object.fromEntries(Object.entries(set).filter(([key]) => key !== parameter.key));
  return value === "" || value === parameter.defaultValue ? others : { ...others, [parameter.key]: value };
}

/** The range of a parameter in words; empty for none. */
export function range(parameter: ParameterView): string {
  const { minimum, maximum } = parameter;
  if (minimum !== "" && maximum !== "") return `${minimum} … ${maximum}`;
  if (minimum !== "") return `≥ ${minimum}`;
  return maximum === "" ? "" : `≤ ${maximum}`;
}
