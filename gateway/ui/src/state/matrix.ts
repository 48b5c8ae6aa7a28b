/** Whether a permission pattern (`user.users.*`, each part may be `*`) holds for a permission. */
export function covers(pattern: string, permission: string): boolean {
  const wanted = permission.split(".");
  const parts = pattern.split(".");
  return parts.length === wanted.length && parts.every((part, at) => part === "*" || part === wanted[at]);
}

/** Permissions by `module.resource`, in the order of the alphabet. */
export function byResource(permissions: string[]): [string, string[]][] {
  const groups = new Map<string, string[]>();
  for (const permission of [...new Set(permissions)].sort()) {
    const group = permission.slice(0, permission.lastIndexOf("."));
    groups.set(group, [...(groups.get(group) ?? []), permission]);
  }
  return [...groups];
}
