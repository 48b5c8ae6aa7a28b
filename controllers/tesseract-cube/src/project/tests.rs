use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use upm_crds::ProjectSpec;
use upm_crds::conditions::{self, kind};

use super::*;
use crate::build::namespace::namespace as built;

fn project() -> Project {
    let mut project = Project::new("p1", ProjectSpec::default());
    project.metadata.uid = Some("uid-1".into());
    project.finalizers_mut().push(finalizer::PROJECT.into());
    project
}

fn seen(namespace: Option<Namespace>) -> Observed {
    Observed {
        namespace,
        ..Observed::default()
    }
}

fn foreign() -> Namespace {
    serde_json::from_value(serde_json::json!({ "metadata": { "name": "p1" } })).unwrap()
}

#[test]
fn makes_a_namespace_only_behind_its_finalizer() {
    let mut bare = project();
    bare.finalizers_mut().clear();
    assert_eq!(plan::plan(&bare, &seen(None)).step, Step::AddFinalizer);
    assert_eq!(plan::plan(&project(), &seen(None)).step, Step::Create);
    let ours = plan::plan(&project(), &seen(Some(built(&project()))));
    assert_eq!((ours.step, ours.ready), (Step::Label, true));
}

#[test]
fn never_touches_a_namespace_of_somebody_else() {
    let plan = plan::plan(&project(), &seen(Some(foreign())));
    assert_eq!(
        (&plan.step, plan.reason),
        (&Step::None, "NamespaceConflict")
    );
    let status = plan::status(&project(), &seen(Some(foreign())), &plan);
    assert!(!conditions::is_true(&status.conditions, kind::READY));

    let mut gone = project();
    gone.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(
        plan::plan(&gone, &seen(Some(foreign()))).step,
        Step::RemoveFinalizer
    );
}

#[test]
fn refuses_reserved_names() {
    for name in ["default", "kube-system", "upm-system"] {
        let mut reserved = project();
        reserved.metadata.name = Some(name.into());
        assert_eq!(plan::plan(&reserved, &seen(None)).reason, "NameReserved");
    }
}

#[test]
fn deletes_the_namespace_only_when_no_set_and_no_volume_is_left() {
    let mut gone = project();
    gone.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut ours = built(&gone);
    ours.metadata.uid = Some("ns".into());
    let used = Observed {
        in_use: vec!["2 volumes".into()],
        ..seen(Some(ours.clone()))
    };
    let plan = plan::plan(&gone, &used);
    assert_eq!((plan.step, plan.reason), (Step::None, "NamespaceInUse"));
    assert_eq!(plan.message, "waits until these are gone: 2 volumes");
    assert_eq!(
        plan::plan(&gone, &seen(Some(ours))).step,
        Step::Delete(Some("ns".into()))
    );
    assert_eq!(plan::plan(&gone, &seen(None)).step, Step::RemoveFinalizer);
}

#[test]
fn is_ready_only_when_the_agent_has_the_projects_secrets() {
    let settings = upm_operator::Settings::default();
    let role = upm_operator::SecretsRole {
        role: "upm-system-upm-agent-secrets".into(),
        account: "upm-agent".into(),
    };
    let wanted = grant::binding("p1", &settings, &role);
    let lacking = Observed {
        ungranted: Some(Box::new(wanted.clone())),
        ..seen(Some(built(&project())))
    };
    let plan = plan::plan(&project(), &lacking);
    assert_eq!(plan.step, Step::Grant(Box::new(wanted.clone())));
    assert!(!plan.ready);

    // what is found comes with fields that the API server fills in
    let mut found = wanted.clone();
    found.metadata.uid = Some("uid".into());
    assert!(grant::grants(&found, &wanted));
    let subjects = found.subjects.get_or_insert_default();
    subjects[0].name = "another".into();
    assert!(!grant::grants(&found, &wanted));

    // a namespace of somebody else gets none
    let foreign = Observed {
        namespace: Some(foreign()),
        ..lacking
    };
    assert_eq!(plan::plan(&project(), &foreign).step, Step::None);
}
