// Generates the clients from proto/, and what the API's comments say of its fields: forms show it beside each field.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const buf = join(root, "node_modules/.bin/buf");
const run = (...args) => execFileSync(buf, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });

run("generate");

const work = mkdtempSync(join(tmpdir(), "upm-ui-"));
const image = join(work, "image.json");
run("build", "../../proto", "--as-file-descriptor-set", "-o", image);
const { file } = JSON.parse(readFileSync(image, "utf8"));
rmSync(work, { recursive: true });

/** By package: `Message.field` or `Enum.VALUE`, with the comment in front of it. */
const packages = {};
for (const each of file.filter((one) => one.package?.startsWith("upm."))) {
  const told = (packages[each.package] ??= {});
  for (const { path, leadingComments } of each.sourceCodeInfo?.location ?? []) {
    const comment = leadingComments?.trim().replace(/\s*\n\s*/g, " ");
    if (!comment || !path) continue;
    const [kind, index, member, at] = path;
    if (kind === 4 && member === 2 && path.length === 4) {
      const message = each.messageType[index];
      told[`${message.name}.${message.field[at].name}`] = comment;
    } else if (kind === 5 && member === 2 && path.length === 4) {
      const one = each.enumType[index];
      told[`${one.name}.${one.value[at].name}`] = comment;
    }
  }
}
const folder = join(root, "src/api/gen/comments");
mkdirSync(folder, { recursive: true });
for (const [name, told] of Object.entries(packages)) {
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(told, null, 1)}\n`);
}
