use proptest::prelude::*;
use upm_proto::hub::v1 as hub;

use super::*;
use crate::{
    Life,
    desired::{DesiredState, MAIN},
    intent::{IntentTemplate, Marks, mark},
    names::ServiceName,
    service::DeletionPolicy,
};

fn service(desired: DesiredState) -> Service {
    let units = serde_json::json!({
        "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet", "metadata": {"name": "demo", "namespace": "p"},
    });
    let mut marks = Marks::new();
    mark(
        &mut marks,
        &[IntentTemplate::of(Part::Pool(MAIN.to_owned()), &units).unwrap()],
        uuid::Uuid::now_v7,
    );
    Service {
        name: ServiceName::new("p", "toyServices", "demo"),
        engine: "toy".into(),
        uid: "u".into(),
        version: 1,
        spec: serde_json::Value::Null,
        spec_version: 1,
        labels: [].into(),
        description: String::new(),
        deletion_policy: DeletionPolicy::KeepData,
        cluster: "c".into(),
        life: Life::Creating,
        message: String::new(),
        operation: String::new(),
        package: String::new(),
        desired,
        marks,
        retained: None,
        create_us: 1,
        update_us: 1,
    }
}

/// What the cluster says of the UnitSet: nothing, or whether it met foreign volumes.
fn observed(service: &Service, foreign: Option<bool>) -> Observed {
    let mark = &service.marks["UnitSet/demo"];
    let status = foreign.map(|foreign| {
        let live = serde_json::json!({"metadata": {"generation": 1}, "status": {
            "observedGeneration": 1,
            "conditions": [{
                "type": "VolumesRetained", "status": if foreign { "True" } else { "False" },
                "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        }});
        hub::ObjectStatus {
            json: live.to_string().into_bytes().into(),
            intent_generation: 1,
            ..Default::default()
        }
    });
    Observed {
        objects: vec![hub::Object {
            key: Some(hub::Key::from(&mark.key)),
            intent_uid: mark.uid.as_bytes().to_vec().into(),
            generation: 1,
            status,
            ..Default::default()
        }],
    }
}

proptest! {
    #[test]
    fn volumes_go_only_when_nobody_can_have_written_to_them(
        served in any::<bool>(),
        chosen in prop_oneof![Just(RetainedVolumes::Refuse), Just(RetainedVolumes::Adopt), Just(RetainedVolumes::Discard)],
        foreign in proptest::option::of(any::<bool>()),
    ) {
        let mut desired = DesiredState::of(&[(MAIN.to_owned(), 3)].into(), chosen);
        desired.topology.served = served;
        let service = service(desired);
        let volumes = volumes_to_undo(&service, MAIN, chosen, &observed(&service, foreign));
        let untouched = !served && chosen != RetainedVolumes::Adopt && foreign == Some(false);
        prop_assert_eq!(volumes == Ok(Volumes::Delete), untouched);
        let unknown = !served && chosen != RetainedVolumes::Adopt && foreign.is_none();
        prop_assert_eq!(volumes.is_err(), unknown);
    }
}
