import { NativeSelect, Textarea, TextInput } from "@mantine/core";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { uuid } from "../../../api/base";
import { field_behavior, FieldBehavior } from "../../../api/gen/google/api/field_behavior_pb";
import { problemOf } from "../../../api/problem";
import { usePermissions } from "../../../auth/permissions";
import { Empty, Failure } from "../../../components/Failure";
import { type Editing, EnumSelect, MessageForm, text, type Values } from "../../../components/MessageForm";
import { Card, Loading, Page } from "../../../components/Page";
import { Parameters } from "../../../components/Parameters";
import { ReasonButton } from "../../../components/Reason";
import { Plan } from "../../../components/Steps";
import { useT } from "../../../i18n";
import { idOf } from "../../../state/proto";
import { ClusterState } from "../../../api/gen/upm/resource/v1/resource_pb";
import { useEngines } from "../engines";
import type { Engine, Wish } from "../model";
import { usePlan } from "./ActionDialog";
import { usePackage } from "./ServiceParameters";
import { usePageSearch } from "../../../state/route";
import { useClusters, useProjects, useStorageClasses } from "../../../auth/lists";

export function CreatePage() {
  const t = useT();
  const engines = useEngines();
  const [collection, setCollection] = useState(engines[0]?.collection ?? "");
  const engine = engines.find((one) => one.collection === collection);
  const projects = useProjects();
  const crumbs = [{ to: "/services", text: t("nav.services") }];
  // An error of a later look must not take the form away, with what was typed.
  if (projects.error && !projects.data) {
    return (
      <Page title={t("services.new")} crumbs={crumbs}>
        <Failure problem={problemOf(projects.error)} retry={() => void projects.refetch()} />
      </Page>
    );
  }
  if (!projects.data || !engine) {
    return (
      <Page title={t("services.new")} crumbs={crumbs}>
        <Loading />
      </Page>
    );
  }
  return (
    <Page title={t("services.new")} crumbs={crumbs}>
      {projects.data.projects.length === 0 ? (
        <Empty title={t("create.noProject")}>
          <Link to="/projects">{t("projects.new")}</Link>
        </Empty>
      ) : (
        <Wizard
          key={collection}
          engine={engine}
          engines={engines}
          setEngine={setCollection}
          projects={projects.data.projects.map((one) => one.name)}
        />
      )}
    </Page>
  );
}

const toJson = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);

function Wizard(props: {
  engine: Engine;
  engines: Engine[];
  setEngine: (collection: string) => void;
  projects: string[];
}) {
  const t = useT();
  const { engine } = props;
  const navigate = useNavigate();
  const queries = useQueryClient();
  const search = usePageSearch();
  const [wish, setWish] = useState<Wish>(() => ({
    project: props.projects.find((name) => idOf(name) === search.project) ?? props.projects[0] ?? "",
    id: "",
    spec: engine.draft(),
    description: "",
    deletionPolicy: 0,
    retainedData: 0,
  }));
  const set = (news: Partial<Wish>) => setWish((before) => ({ ...before, ...news }));
  const may = usePermissions(wish.project, [engine.methods.create]);
  const { allowed, permission } = may(engine.methods.create);
  const key = JSON.stringify(wish, toJson);
  const { plan, error, wrong, current, again } = usePlan(
    ["create", engine.collection, key],
    (once, signal) => engine.create(wish, once, signal),
    allowed === true,
  );
  const requestId = useMemo(uuid, [key]);
  const mutation = useMutation({
    mutationFn: () => engine.create(wish, { validateOnly: false, requestId }),
    onSuccess: async (operation) => {
      void queries.invalidateQueries({ queryKey: ["operations"] });
      const [, project = "", collection = "", service = ""] = operation.target.split("/");
      await navigate({ to: "/services/$project/$collection/$service", params: { project, collection, service } });
    },
  });
  const shownError = mutation.error ?? (wrong.size > 0 ? null : error);
  const reason =
    allowed === false
      ? t("forbidden.permission", { permission, project: idOf(wish.project) })
      : wish.id === ""
        ? t("create.idFirst")
        : error || !plan
          ? t("plan.notPossible")
          : current
            ? undefined
            : t("plan.beingMade");
  const specPath = `${engine.resourceField}.spec`;
  const version = wish.spec["version"];
  const known = usePackage(engine.software, typeof version === "string" ? version : "");
  const parameters = (wish.spec["parameters"] ?? {}) as Record<string, string>;
  return (
    <div className="wizard">
      <div className="wizard-form">
        <Card title={`1 · ${t("create.what")}`}>
          <div className="form">
            {props.engines.length > 1 && (
              <NativeSelect
                label={t("services.engine")}
                value={engine.collection}
                onChange={(event) => props.setEngine(event.currentTarget.value)}
                data={props.engines.map((one) => ({ value: one.collection, label: one.title }))}
              />
            )}
            <NativeSelect
              label={t("services.project")}
              value={wish.project}
              onChange={(event) => set({ project: event.currentTarget.value })}
              error={wrong.get("parent")}
              data={props.projects.map((name) => ({ value: name, label: idOf(name) }))}
            />
            <TextInput
              label={t("create.id")}
              description={t("create.idRule")}
              required
              autoFocus
              autoComplete="off"
              value={wish.id}
              onChange={(event) => set({ id: event.currentTarget.value })}
              error={wrong.get(engine.idField)}
            />
            <Textarea
              label={t("field.description")}
              value={wish.description}
              onChange={(event) => set({ description: event.currentTarget.value })}
              error={wrong.get(`${engine.resourceField}.description`)}
            />
          </div>
        </Card>
        <Card title={`2 · ${t("create.how")}`}>
          <MessageForm
            schema={engine.spec}
            value={wish.spec}
            onChange={(spec: Values) => set({ spec })}
            path={specPath}
            wrong={wrong}
            comments={engine.comments}
            hidden={(field) => field.name === "parameters"}
            required={(field) =>
              hasOption(field, field_behavior) && getOption(field, field_behavior).includes(FieldBehavior.REQUIRED)
            }
            editors={{
              cluster: (editing) => <ClusterChoice editing={editing} />,
              version: (editing) => <VersionChoice editing={editing} versions={known.versions} />,
              storage_class: (editing) => <StorageClassChoice editing={editing} cluster={text(wish.spec["cluster"])} />,
            }}
          />
        </Card>
        <Card title={`3 · ${t("field.parameters")}`}>
          {known.error ? (
            <Failure problem={problemOf(known.error)} />
          ) : known.software ? (
            <Parameters
              parameters={known.software.parameters}
              set={parameters}
              onChange={(news) => set({ spec: { ...wish.spec, parameters: news } })}
              wrong={(name) => wrong.get(`${specPath}.parameters[${name}]`)}
            />
          ) : (
            <Loading rows={3} />
          )}
        </Card>
        <Card title={`4 · ${t("create.later")}`}>
          <div className="form">
            <EnumSelect
              desc={engine.deletionPolicy}
              comments={engine.comments}
              label={t("field.deletionPolicy")}
              value={wish.deletionPolicy}
              onChange={(deletionPolicy) => set({ deletionPolicy })}
            />
            <EnumSelect
              desc={engine.retainedData}
              comments={engine.comments}
              label={t("create.retained")}
              value={wish.retainedData}
              onChange={(retainedData) => set({ retainedData })}
            />
          </div>
        </Card>
      </div>
      <div className="wizard-plan">
        <Card title={t("plan.title")}>
          {wrong.size > 0 && (
            <div role="status">
              <p className="form-error">{t("create.wrong", { n: wrong.size })}</p>
              <ul className="unmet">
                {[...wrong].map(([path, why]) => (
                  <li key={path}>
                    <code>{path.replace(`${specPath}.`, "")}</code> {why}
                  </li>
                ))}
              </ul>
            </div>
          )}
          {allowed === false && (
            <p className="form-error">{t("forbidden.permission", { permission, project: idOf(wish.project) })}</p>
          )}
          {shownError && <Failure problem={problemOf(shownError)} retry={again} />}
          {!error && plan && <Plan plan={plan} />}
          {!error && !plan && allowed !== false && <Loading rows={3} />}
          <ReasonButton reason={reason} loading={mutation.isPending} fullWidth onClick={() => mutation.mutate()}>
            {t("create.submit")}
          </ReasonButton>
        </Card>
      </div>
    </div>
  );
}

function ClusterChoice({ editing }: { editing: Editing }) {
  const t = useT();
  const { data } = useClusters();
  // Who may not list clusters can still type one.
  if (!data) {
    return (
      <TextInput
        label={editing.label}
        description={editing.help}
        error={editing.error}
        value={text(editing.value)}
        onChange={(event) => editing.set(event.currentTarget.value)}
      />
    );
  }
  return (
    <NativeSelect
      label={editing.label}
      description={editing.help}
      error={editing.error}
      value={text(editing.value)}
      onChange={(event) => editing.set(event.currentTarget.value)}
      data={[
        { value: "", label: t("form.default") },
        ...data.clusters.map((one) => ({
          value: one.name,
          label: one.cordoned
            ? t("create.cordoned", { cluster: idOf(one.name) })
            : one.state === ClusterState.HEALTHY
              ? idOf(one.name)
              : t("create.unhealthy", { cluster: idOf(one.name) }),
          disabled: one.cordoned || one.state !== ClusterState.HEALTHY,
        })),
      ]}
    />
  );
}

function VersionChoice({ editing, versions }: { editing: Editing; versions: string[] }) {
  const t = useT();
  return (
    <NativeSelect
      label={editing.label}
      description={editing.help}
      error={editing.error}
      value={text(editing.value)}
      onChange={(event) => editing.set(event.currentTarget.value)}
      data={[{ value: "", label: t("create.newest") }, ...versions]}
    />
  );
}

function StorageClassChoice({ editing, cluster }: { editing: Editing; cluster: string }) {
  const t = useT();
  const clusters = useClusters();
  const only = clusters.data?.clusters.length === 1 ? (clusters.data.clusters[0]?.name ?? "") : "";
  const parent = cluster === "" ? only : cluster;
  const { data } = useStorageClasses(parent);
  return (
    <NativeSelect
      label={editing.label}
      description={editing.help}
      error={editing.error}
      value={text(editing.value)}
      onChange={(event) => editing.set(event.currentTarget.value)}
      data={[
        { value: "", label: t("form.default") },
        ...(data?.storageClasses ?? []).map((one) => ({
          value: idOf(one.name),
          label: `${idOf(one.name)} · ${one.provisioner}`,
        })),
      ]}
    />
  );
}
