//! What the chart renders is what `upm serve` reads.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize as _;
use serde_yaml::Value;

use super::*;

/// Where `integration/cluster/programs.sh` puts it.
fn helm() -> Command {
    let folder = std::env::var_os("UPM_TEST_BIN").map_or_else(
        || Path::new(&std::env::var_os("HOME").expect("HOME")).join(".cache/upm/bin"),
        PathBuf::from,
    );
    let helm = folder.join("helm");
    assert!(
        helm.exists(),
        "{} is not there: integration/cluster/programs.sh builds it",
        helm.display()
    );
    Command::new(helm)
}

/// The configuration files of all modules, as the chart renders them with one of its examples.
fn rendered(example: &str) -> BTreeMap<String, Config> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/upm-platform");
    let output = helm()
        .env("KUBECONFIG", "/dev/null")
        .args(["template", "upm", "--kube-version", "1.30.0"])
        .args(["--show-only", "templates/config-map.yaml"])
        .arg("--values")
        .arg(chart.join("ci").join(example))
        .arg(&chart)
        .output()
        .expect("run helm");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let manifest = serde_yaml::Deserializer::from_slice(&output.stdout);
    let manifest = Value::deserialize(manifest).expect("helm prints YAML");
    let files: BTreeMap<String, String> =
        serde_yaml::from_value(manifest["data"].clone()).expect("a ConfigMap holds texts");
    files
        .into_iter()
        .map(|(name, text)| {
            let config = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, config)
        })
        .collect()
}

/// The modules with the gateway, as the chart's values name them.
fn keys() -> Vec<&'static str> {
    let modules = hosted::HOSTED.iter().map(|module| module.name);
    modules.chain([GATEWAY]).collect()
}

/// The text between two lines, with others in its place.
fn between(text: &str, begin: &str, end: &str, lines: &str) -> String {
    let (before, rest) = text.split_once(begin).expect("the line before the list");
    let at = rest.find(end).expect("the line after the list");
    format!("{before}{begin}{lines}{}", &rest[at..])
}

#[test]
fn the_charts_keys_are_the_modules() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/upm-platform");
    let values: String = keys()
        .iter()
        .map(|key| format!("  {key}: {{}}\n"))
        .collect();
    let quoted: Vec<String> = keys().iter().map(|key| format!("\"{key}\"")).collect();
    let quoted = quoted.join(", ");
    for (file, begin, end, lines) in [
        ("values.yaml", "\nmodules:\n", "\n# A ConfigMap", values),
        (
            "values.schema.json",
            "\"modules\": {\n      \"type\": \"object\",\n",
            "      \"additionalProperties\"",
            format!(
                "      \"required\": [{quoted}],\n      \"propertyNames\": {{ \"enum\": [{quoted}] }},\n"
            ),
        ),
    ] {
        let file = chart.join(file);
        let found = std::fs::read_to_string(&file).expect("read a file of the chart");
        let wanted = between(&found, begin, end, &lines);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &wanted).expect("write a file of the chart");
        } else {
            assert!(
                found == wanted,
                "{} is stale: run UPDATE=1 cargo test -p upm the_charts_keys",
                file.display()
            );
        }
    }
}

#[test]
fn the_limits_of_the_chart_are_those_of_the_gateway() {
    let all = rendered("mysql-values.yaml");
    assert_eq!(all.len(), hosted::HOSTED.len() + 1, "{:?}", all.keys());
    let sealed = all["auth.toml"].auth.key_file.as_deref();
    assert_eq!(sealed, Some(Path::new("/var/run/upm/key/key")));
    let signs = &all["operatorlog.toml"].operatorlog;
    assert_eq!(signs.key_file.as_deref(), sealed);
    let adopted = format!("1200:{}", "0a".repeat(32));
    assert_eq!(signs.adopt_head.as_deref(), Some(adopted.as_str()));
    let settings = all["gateway.toml"].gateway.settings().unwrap();
    let rate = |per_second, burst| Some(upm_gateway::Rate { per_second, burst });
    assert_eq!(settings.rate_per_address, rate(1e6, 1_000_000));
    assert_eq!(settings.rate_per_principal, rate(0.5, 40));
    assert_eq!(
        settings.allowed_origins,
        ["https://ui.example.com", "http://[2001:db8::1]:3000"]
    );
    assert_eq!(settings.access_log, Some(AccessLog::Stdout));
    assert_eq!(settings.max_body_bytes, 8 * 1024 * 1024);
    assert!(settings.tls.is_some());
}

#[test]
fn a_chart_that_says_nothing_leaves_the_gateway_its_defaults() {
    let all = rendered("sqlite-values.yaml");
    let (settings, usual) = (
        all["gateway.toml"].gateway.settings().unwrap(),
        upm_gateway::Config::default(),
    );
    assert_eq!(
        (settings.rate_per_address, settings.rate_per_principal),
        (None, None)
    );
    assert_eq!(settings.max_body_bytes, usual.max_body_bytes);
    assert!(settings.allowed_origins.is_empty() && settings.access_log.is_none());
}
