//! Where images come from.

use k8s_openapi::api::core::v1::PodSpec;
use upm_operator::Settings;

pub(super) fn set(settings: &Settings, spec: &mut PodSpec) {
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(spec.containers.iter_mut())
    {
        if let Some(image) = container.image.take() {
            container.image = Some(prefixed(&settings.image_prefix, &image));
        }
        container
            .image_pull_policy
            .get_or_insert_with(|| "IfNotPresent".to_owned());
    }
}

/// The image with the prefix in front, unless it names a registry itself.
fn prefixed(prefix: &str, image: &str) -> String {
    let host = image.split_once('/').map(|(host, _)| host);
    let names_registry = host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost");
    match prefix {
        "" => image.to_owned(),
        _ if names_registry => image.to_owned(),
        _ => format!("{}/{image}", prefix.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::prefixed;

    #[test]
    fn puts_the_prefix_before_images_without_a_registry() {
        for (image, expected) in [
            ("redis:7.0.15", "upm.local/redis:7.0.15"),
            ("upm/redis:7.0.15", "upm.local/upm/redis:7.0.15"),
            ("quay.io/x/redis:7", "quay.io/x/redis:7"),
            ("localhost/redis", "localhost/redis"),
            ("registry:5000/redis", "registry:5000/redis"),
        ] {
            assert_eq!(prefixed("upm.local/", image), expected);
            assert_eq!(prefixed("upm.local", image), expected);
            assert_eq!(prefixed("", image), image);
        }
    }
}
