// Shows the OpenAPI document that lies beside this page. Everything from it becomes text nodes, never markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return element;
}

let api = {};

/** What a `$ref` points to. */
function resolve(value) {
  let found = value;
  while (found && found.$ref) {
    found = found.$ref.replace("#/", "").split("/").reduce((at, part) => at?.[part], api);
  }
  return found ?? {};
}

const nameOf = (schema) => schema?.$ref?.split("/").pop();

/** The type of a schema in words. */
function typeOf(schema) {
  if (!schema) return "any";
  if (schema.$ref) return nameOf(schema);
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.type === "object" && schema.additionalProperties) return `map to ${typeOf(schema.additionalProperties)}`;
  const alternatives = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (alternatives) return alternatives.map(typeOf).join(schema.allOf ? " and " : " or ");
  const type = [schema.type ?? "any"].flat().join(" or ");
  return schema.format ? `${type} (${schema.format})` : type;
}

/** The schema whose fields are to be shown below a value. */
function inner(schema) {
  if (!schema) return undefined;
  if (schema.items) return inner(schema.items);
  if (schema.additionalProperties && typeof schema.additionalProperties === "object") return inner(schema.additionalProperties);
  if (schema.allOf?.length === 1) return inner(schema.allOf[0]);
  const found = resolve(schema);
  return found.properties ? found : schema.$ref && (found.items || found.additionalProperties) ? inner(found) : undefined;
}

const marks = (...words) => words.filter(Boolean).map((word) => make("span", { class: "mark" }, word));

/** One field, with its own fields behind a disclosure that is filled when it is opened. */
function field(name, schema, required) {
  const found = resolve(schema);
  const description = schema.description ?? found.description;
  const label = [
    make("code", {}, name),
    " ",
    make("span", { class: "type" }, typeOf(schema)),
    ...marks(required && "required", (schema.readOnly ?? found.readOnly) && "read-only", (schema.deprecated ?? found.deprecated) && "deprecated"),
  ];
  const text = description ? make("p", { class: "text" }, description) : undefined;
  const values = found.enum ? make("p", { class: "type" }, `One of ${found.enum.join(", ")}`) : undefined;
  const below = inner(schema);
  if (!below) return make("li", {}, label, text, values);
  const details = make("details", {}, make("summary", {}, label), text);
  details.addEventListener("toggle", () => details.append(fields(below)), { once: true });
  return make("li", {}, details);
}

/** The fields of an object. */
function fields(schema) {
  const required = new Set(schema.required ?? []);
  const properties = Object.entries(schema.properties ?? {});
  return make("ul", { class: "fields" }, properties.map(([name, value]) => field(name, value, required.has(name))));
}

/** A schema as a whole. */
function whole(schema) {
  const below = inner(schema);
  return [make("p", { class: "type" }, typeOf(schema)), below ? fields(below) : undefined];
}

/** The contents of a body by content type; equal schemas are shown once. */
function contents(content) {
  const groups = new Map();
  for (const [type, { schema }] of Object.entries(content ?? {})) {
    const key = JSON.stringify(schema);
    groups.set(key, { types: [...(groups.get(key)?.types ?? []), type], schema });
  }
  return [...groups.values()].flatMap(({ types, schema }) => [make("p", {}, make("code", {}, types.join(", "))), whole(schema)].flat());
}

/** A value to begin with: every field that one may write, three levels deep. */
function example(schema, depth = 0) {
  const found = resolve(schema);
  if (found.enum) return found.enum[found.enum.length > 1 ? 1 : 0];
  if (found.type === "array") return depth > 2 ? [] : [example(found.items, depth + 1)];
  if (found.properties) {
    const writable = Object.entries(found.properties).filter(([, value]) => !(value.readOnly ?? resolve(value).readOnly));
    return depth > 2 ? {} : Object.fromEntries(writable.map(([name, value]) => [name, example(value, depth + 1)]));
  }
  return { string: "", integer: 0, number: 0, boolean: false }[[found.type].flat()[0]] ?? {};
}

/** A form that sends the request, and shows what comes back. */
function trial(path, method, operation, parameters) {
  const body = resolve(operation.requestBody).content?.["application/json"]?.schema;
  const inputs = parameters.map((parameter) => [parameter, make("input", { type: "text", required: parameter.required, autocomplete: "off" })]);
  const text = body ? make("textarea", { spellcheck: "false" }, JSON.stringify(example(body), null, 2)) : undefined;
  const answer = make("pre", { hidden: true, tabindex: "0" });
  const status = make("p", { role: "status" });
  async function send(event) {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams();
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (parameter.in === "query" && input.value !== "") query.append(parameter.name, input.value);
    }
    const headers = {};
    if (byId("token").value) headers.authorization = `Bearer ${byId("token").value}`;
    if (text) headers["content-type"] = "application/json";
    status.textContent = "Waiting …";
    answer.hidden = false;
    answer.textContent = "";
    try {
      const base = location.pathname.replace(/\/docs\/?$/, "");
      const asked = `${base}${url}${query.size ? `?${query}` : ""}`;
      const response = await fetch(asked, { method: method.toUpperCase(), headers, body: text?.value, credentials: "omit" });
      status.textContent = `${response.status} ${response.statusText}`;
      await show(response, answer);
    } catch (error) {
      status.textContent = String(error);
    }
  }
  return make("form", { class: "form", onsubmit: send },
    inputs.map(([parameter, input]) => make("label", {}, make("code", {}, parameter.name), input)),
    text ? make("label", {}, "Body", text) : undefined,
    make("div", {}, make("button", { type: "submit" }, "Send")), status, answer);
}

/** Streams are shown as they come, at most 64 KiB of them. */
async function show(response, answer) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let shown = "";
  while (reader && shown.length < 65536) {
    const { value, done } = await reader.read();
    if (done) break;
    shown += value;
    answer.textContent = shown;
  }
  if (reader && shown.length >= 65536) await reader.cancel();
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    try {
      answer.textContent = JSON.stringify(JSON.parse(shown), null, 2);
    } catch {
      // It stays as it came.
    }
  }
}

function operationBody(path, method, operation, parameters) {
  // The same answer for several codes is told once.
  const all = Object.entries(operation.responses ?? {});
  const told = all.filter(([, response], index) => !all.some(([, other], later) => later > index && other.$ref && other.$ref === response.$ref));
  const answers = told.map(([code, response]) => {
    const found = resolve(response);
    return [make("h3", {}, code === "default" ? "Any other answer" : `Answer ${code}`), make("p", { class: "text" }, found.description ?? ""), ...contents(found.content)];
  });
  const own = parameters.map((parameter) => field(parameter.name, { description: parameter.description, ...parameter.schema }, parameter.required));
  return make("div", {},
    make("p", { class: "text" }, operation.description ?? ""),
    own.length ? [make("h3", {}, "Parameters"), make("ul", { class: "fields" }, own)] : undefined,
    operation.requestBody ? [make("h3", {}, "Body"), ...contents(resolve(operation.requestBody).content)] : undefined,
    answers.flat(),
    make("h3", {}, "Try it"),
    trial(path, method, operation, parameters));
}

function operationElement({ path, method, operation, parameters }) {
  const details = make("details", { class: operation.deprecated ? "operation deprecated" : "operation", id: operation.operationId },
    make("summary", {},
      make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("span", { class: "path" }, path),
      make("span", { class: "summary" }, operation.summary ?? "")));
  // Bodies are made when they are looked at: there may be hundreds.
  details.addEventListener("toggle", () => details.append(operationBody(path, method, operation, parameters)), { once: true });
  return details;
}

/** The operations in the order of the document. */
function operations() {
  return Object.entries(api.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
      const operation = item[method];
      const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
      return { path, method, operation, parameters, tag: operation.tags?.[0] ?? "API" };
    }));
}

function openFromAddress() {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus();
  }
}

function filter(all) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const entry of all) {
    const fits = words.every((word) => entry.words.includes(word));
    entry.element.hidden = !fits;
    entry.link.hidden = !fits;
    found += fits ? 1 : 0;
  }
  for (const group of document.querySelectorAll("[data-tag]")) {
    group.hidden = ![...group.querySelectorAll("details.operation, li")].some((one) => !one.hidden);
  }
  byId("found").textContent = words.length ? `${found} of ${all.length} operations` : `${all.length} operations`;
}

function render() {
  document.title = `${api.info?.title ?? "API"} ${api.info?.version ?? ""}`;
  byId("title").textContent = document.title;
  byId("about").textContent = api.info?.description ?? "";
  const descriptions = new Map((api.tags ?? []).map((tag) => [tag.name, tag.description]));
  const groups = new Map();
  for (const entry of operations()) groups.set(entry.tag, [...(groups.get(entry.tag) ?? []), entry]);
  const all = [];
  const main = [];
  const contentsList = [];
  for (const [tag, entries] of groups) {
    for (const entry of entries) {
      const { path, method, operation } = entry;
      entry.element = operationElement(entry);
      entry.link = make("li", {}, make("a", { href: `#${operation.operationId}`, onclick: () => setTimeout(openFromAddress) },
        make("span", { class: `method ${method}` }, method.toUpperCase()), operation.operationId.split("_").slice(1).join("_") || path));
      entry.words = `${method} ${path} ${operation.operationId} ${operation.summary} ${operation.description}`.toLowerCase();
      all.push(entry);
    }
    main.push(make("section", { "data-tag": tag }, make("h2", {}, tag), make("p", { class: "text" }, descriptions.get(tag) ?? ""), entries.map((entry) => entry.element)));
    contentsList.push(make("div", { "data-tag": tag }, make("h2", {}, tag), make("ul", {}, entries.map((entry) => entry.link))));
  }
  byId("main").replaceChildren(...main);
  byId("contents").replaceChildren(...contentsList);
  byId("filter").addEventListener("input", () => filter(all));
  filter(all);
  openFromAddress();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) {
    event.preventDefault();
    byId("filter").focus();
  }
});
window.addEventListener("hashchange", openFromAddress);

(async () => {
  try {
    const response = await fetch(`${location.pathname.replace(/\/docs\/?$/, "")}/openapi.json`);
    if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
    api = await response.json();
    render();
  } catch (error) {
    byId("main").replaceChildren(make("p", { role: "alert" }, `The document could not be loaded: ${error.message}`));
  }
})();
