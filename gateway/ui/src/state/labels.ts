import type { Key, Translate } from "../i18n";

/** Names of fields that all engines share; another one is shown by its own name. */
const FIELDS: Record<string, Key> = {
  cluster: "field.cluster",
  version: "field.version",
  members: "field.members",
  cpu: "field.cpu",
  memory: "field.memory",
  storage: "field.storage",
  size: "field.size",
  storage_class: "field.storageClass",
  parameters: "field.parameters",
  data_loss_policy: "field.dataLossPolicy",
  placement: "field.placement",
  description: "field.description",
  deletion_policy: "field.deletionPolicy",
};

const VALUES: Record<string, Key> = {
  NEVER: "enum.never",
  BOUNDED: "enum.bounded",
  SPREAD_PREFERRED: "enum.spreadPreferred",
  SPREAD_REQUIRED: "enum.spreadRequired",
  KEEP_DATA: "enum.keepData",
  DELETE_DATA: "enum.deleteData",
  DO_NOT_DELETE: "enum.doNotDelete",
  ADOPT: "enum.adopt",
  DISCARD: "enum.discard",
};

/** A field for people. */
export function fieldLabel(t: Translate, name: string): string {
  const key = FIELDS[name];
  return key ? t(key) : sentence(name);
}

/** An enum's value for people. */
export function enumLabel(t: Translate, name: string): string {
  const key = VALUES[name];
  return key ? t(key) : sentence(name);
}

/** `storage_class` → `Storage class`. */
export function sentence(name: string): string {
  const words = name.toLowerCase().replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
