//! What a project's namespace needs next. Pure.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt as _;
use upm_crds::conditions::{self, kind};
use upm_crds::names::finalizer;
use upm_crds::{Project, ProjectStatus};
use upm_operator::Next;

use super::Observed;
use crate::build::namespace::{is_ours, is_reserved};

/// How often a namespace that belongs to somebody else, or is in use, is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// How often a namespace that is being deleted is looked at.
const LOOK_ENDING: Duration = Duration::from_secs(2);
/// How soon a binding that was made is looked at. Nothing tells of it.
const LOOK_GRANTED: Duration = Duration::from_millis(100);

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    None,
    AddFinalizer,
    Create,
    Label,
    Grant(Box<RoleBinding>),
    Delete(Option<String>),
    RemoveFinalizer,
}

/// What to do for a project, and what its status says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(super) step: Step,
    pub(super) ready: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) next: Next,
}

fn waiting(step: Step, reason: &'static str, message: String, look: Duration) -> Plan {
    Plan {
        step,
        ready: false,
        reason,
        message,
        next: Next::After(look),
    }
}

pub(super) fn plan(project: &Project, observed: &Observed) -> Plan {
    let name = project.name_any();
    let found = observed.namespace.as_ref();
    let ours = found.filter(|namespace| is_ours(namespace, &name));
    if project.metadata.deletion_timestamp.is_some() {
        return delete(observed, ours);
    }
    if is_reserved(&name) {
        return waiting(
            Step::None,
            "NameReserved",
            format!("namespace {name} is reserved"),
            LOOK,
        );
    }
    if !upm_operator::finalizer::present(project, finalizer::PROJECT) {
        return waiting(Step::AddFinalizer, "Preparing", String::new(), LOOK_ENDING);
    }
    match (found, ours) {
        (None, _) => waiting(
            Step::Create,
            "Preparing",
            format!("makes namespace {name}"),
            LOOK_ENDING,
        ),
        (Some(_), None) => {
            let message = format!(
                "namespace {name} exists and was not made for this project; it is not touched"
            );
            waiting(Step::None, "NamespaceConflict", message, LOOK)
        }
        (Some(_), Some(ours)) if ours.metadata.deletion_timestamp.is_some() => {
            let message = format!("the earlier namespace {name} is being deleted");
            waiting(Step::None, "NamespaceTerminating", message, LOOK_ENDING)
        }
        (Some(_), Some(_)) => match &observed.ungranted {
            Some(binding) => waiting(
                Step::Grant(binding.clone()),
                "Preparing",
                format!("binds the agent's role for the Secrets of namespace {name}"),
                LOOK_GRANTED,
            ),
            None => Plan {
                step: Step::Label,
                ready: true,
                reason: "Active",
                message: String::new(),
                next: Next::Await,
            },
        },
    }
}

fn delete(observed: &Observed, ours: Option<&k8s_openapi::api::core::v1::Namespace>) -> Plan {
    match ours {
        // somebody else's namespace stays
        None => waiting(
            Step::RemoveFinalizer,
            "Terminating",
            String::new(),
            LOOK_ENDING,
        ),
        Some(_) if !observed.in_use.is_empty() => {
            let message = format!("waits until these are gone: {}", observed.in_use.join(", "));
            waiting(Step::None, "NamespaceInUse", message, LOOK)
        }
        Some(ours) if ours.metadata.deletion_timestamp.is_some() => waiting(
            Step::None,
            "Terminating",
            "the namespace is being deleted".to_owned(),
            LOOK_ENDING,
        ),
        Some(ours) => waiting(
            Step::Delete(ours.uid()),
            "Terminating",
            String::new(),
            LOOK_ENDING,
        ),
    }
}

pub(super) fn status(project: &Project, observed: &Observed, plan: &Plan) -> ProjectStatus {
    let mut status = project.status.clone().unwrap_or_default();
    status.observed_generation = project.metadata.generation;
    status.namespace = plan.ready.then(|| project.name_any());
    conditions::set(
        &mut status.conditions,
        kind::READY,
        plan.ready,
        plan.reason,
        plan.message.clone(),
        observed.now,
    );
    let ignored: &[&str] = if project.spec.ca.is_some() {
        &["spec.ca"]
    } else {
        &[]
    };
    conditions::ignored(&mut status.conditions, ignored, observed.now);
    conditions::observed(&mut status.conditions, project.metadata.generation);
    status
}
