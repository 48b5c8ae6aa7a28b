//! The controller of a project: its namespace, and the agent's right to the Secrets there.

mod plan;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use upm_crds::conditions;
use upm_crds::names::finalizer;
use upm_crds::{Project, ProjectStatus};
use upm_operator::call::{self, Propagation};
use upm_operator::{Context, Controller, Error, Next};

use crate::build::{grant, namespace};
use crate::caches::Caches;
pub(crate) use plan::Plan;
use plan::Step;

/// Reconciles projects.
#[derive(Debug)]
pub(crate) struct Projects {
    pub(crate) context: Context,
    pub(crate) caches: Caches,
}

/// What a project is reconciled from.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) now: Timestamp,
    /// The namespace of the project's name, whoever made it.
    pub(crate) namespace: Option<Namespace>,
    /// What a deletion would destroy: "2 UnitSets, 3 volumes".
    pub(crate) in_use: Vec<String>,
    /// The RoleBinding that the agent still lacks in the namespace.
    pub(crate) ungranted: Option<Box<RoleBinding>>,
}

impl Controller for Projects {
    const NAME: &'static str = "tesseract-cube";
    type Object = Project;
    type Observed = Observed;
    type Plan = Plan;

    async fn observe(&self, project: &Project) -> Result<Observed, Error> {
        let name = project.name_any();
        let namespaces: Api<Namespace> = Api::all(self.context.client.clone());
        let namespace = call::get_opt(&namespaces, &name).await?;
        let mut in_use = Vec::new();
        if project.metadata.deletion_timestamp.is_some() && namespace.is_some() {
            // before a namespace is deleted its volumes are asked for at the source, labelled or not
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(self.context.client.clone(), &name);
            let counted = [
                (Caches::in_namespace(&self.caches.sets, &name), "UnitSets"),
                (Caches::in_namespace(&self.caches.units, &name), "Units"),
                (call::list(&claims, "").await?.items.len(), "volumes"),
            ];
            let present = counted.into_iter().filter(|(count, _)| *count > 0);
            in_use = present
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
        }
        let ungranted = match &namespace {
            Some(found) if namespace::is_ours(found, &name) => self.ungranted(&name).await?,
            Some(_) | None => None,
        };
        Ok(Observed {
            now: Timestamp::now(),
            namespace,
            in_use,
            ungranted,
        })
    }

    fn plan(&self, project: &Project, observed: &Observed) -> Result<Plan, Error> {
        Ok(plan::plan(project, observed))
    }

    fn status(&self, project: &Project, observed: &Observed, plan: &Plan) -> Option<ProjectStatus> {
        Some(plan::status(project, observed, plan))
    }

    fn outcome(&self, status: &mut ProjectStatus, failure: Option<&Error>, now: Timestamp) {
        let words = failure.and_then(Error::refusal);
        conditions::refused(&mut status.conditions, words, now);
        conditions::observed(&mut status.conditions, status.observed_generation);
    }

    async fn apply(&self, project: &Project, plan: Plan) -> Result<Next, Error> {
        let projects: Api<Project> = Api::all(self.context.client.clone());
        let namespaces: Api<Namespace> = Api::all(self.context.client.clone());
        let name = project.name_any();
        match plan.step {
            Step::None => {}
            Step::AddFinalizer => {
                upm_operator::finalizer::add(&projects, project, finalizer::PROJECT).await?;
            }
            Step::Create => {
                // not applied: a namespace that appeared meanwhile is not adopted
                if call::create(&namespaces, &namespace::namespace(project))
                    .await?
                    .is_some()
                {
                    let note = format!("made namespace {name}");
                    self.context
                        .events
                        .normal(project, "NamespaceCreated", "Create", note)
                        .await;
                }
            }
            Step::Label => {
                let current: Option<Arc<Namespace>> = self.caches.namespaces.get("", &name);
                call::apply(
                    &namespaces,
                    current.as_deref(),
                    &namespace::namespace(project),
                    Self::NAME,
                )
                .await?;
            }
            Step::Grant(binding) => {
                let bindings: Api<RoleBinding> =
                    Api::namespaced(self.context.client.clone(), &name);
                call::apply(&bindings, None, binding.as_ref(), Self::NAME).await?;
            }
            Step::Delete(uid) => {
                call::delete(&namespaces, &name, uid, Propagation::Background).await?;
            }
            Step::RemoveFinalizer => {
                upm_operator::finalizer::remove(&projects, project, &[finalizer::PROJECT]).await?;
            }
        }
        Ok(plan.next)
    }
}

impl Projects {
    /// Nothing watches the bindings: one that somebody removed is missed with the next look at the project.
    async fn ungranted(&self, project: &str) -> Result<Option<Box<RoleBinding>>, Error> {
        let settings = &self.context.settings;
        let Some(secrets) = &settings.secrets else {
            return Ok(None);
        };
        let wanted = grant::binding(project, settings, secrets);
        let bindings: Api<RoleBinding> = Api::namespaced(self.context.client.clone(), project);
        let found = call::get_opt(&bindings, &secrets.role).await?;
        let there = found.is_some_and(|found| grant::grants(&found, &wanted));
        Ok((!there).then(|| Box::new(wanted)))
    }
}

#[cfg(test)]
mod tests;
