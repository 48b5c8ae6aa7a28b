use super::*;

mod starts;

const TEMPLATE: &str = include_str!("../../../../helm/packages/redis-7.0.15/config.tmpl");
const VALUES: &str = include_str!("../../../../helm/packages/redis-7.0.15/values.yaml");
const PARAMETERS: &str = include_str!("../../../../helm/packages/redis-7.0.15/parameters.yaml");
const MEMORY: &str = include_str!("../../../../helm/packages/redis-7.0.15/memory.yaml");
const UNIT: &str = include_str!("../../../../helm/packages/redis-7.0.15/unit.yaml");
const POD: &str = include_str!("../../../../helm/packages/redis-7.0.15/pod-template.yaml");

fn inputs(secrets: &Path) -> Inputs {
    std::fs::write(secrets.join("default"), "correct horse").unwrap();
    std::fs::write(secrets.join("upm-replica"), "battery staple").unwrap();
    let env = [
        ("UNIT_PORT", "6379"),
        ("RUN_DIR", "/upm/run"),
        ("DATA_MOUNT", "/data"),
        ("MEMORY_LIMIT", "1073741824"),
    ];
    Inputs {
        values: flatten(&serde_yaml::from_str(VALUES).unwrap()),
        env: env
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        secrets: secrets.to_owned(),
        ..Inputs::default()
    }
}

fn line<'a>(rendered: &'a str, option: &str) -> Option<&'a str> {
    rendered
        .lines()
        .find_map(|line| line.strip_prefix(option)?.strip_prefix(' '))
}

#[test]
fn renders_the_redis_package_parked() {
    let secrets = tempfile::tempdir().unwrap();
    let rendered = render(TEMPLATE, &inputs(secrets.path())).unwrap();
    assert_eq!(line(&rendered, "replicaof"), Some("127.0.0.1 1"));
    assert_eq!(line(&rendered, "replica-serve-stale-data"), Some("no"));
    assert_eq!(line(&rendered, "min-replicas-to-write"), Some("1000"));
    assert_eq!(line(&rendered, "appendonly"), Some("yes"));
    assert_eq!(line(&rendered, "maxmemory"), Some("499122176"));
    assert!(
        !rendered.contains("correct horse"),
        "the password itself is never in the file"
    );
    assert_eq!(
        rendered
            .lines()
            .filter(|line| line.starts_with("replica-announce-ip"))
            .count(),
        0
    );
}

#[test]
fn prefers_the_maxmemory_that_was_set_within_the_limit() {
    let secrets = tempfile::tempdir().unwrap();
    let mut inputs = inputs(secrets.path());
    for (wanted, rendered) in [
        ("200000000", "200000000"),
        ("0", "1048576"),
        ("17592186044416", "714080256"),
    ] {
        inputs
            .values
            .insert("/redis/maxmemory".to_owned(), wanted.to_owned());
        assert_eq!(
            line(&render(TEMPLATE, &inputs).unwrap(), "maxmemory"),
            Some(rendered)
        );
    }
}

#[test]
fn masks_every_secret() {
    let secrets = tempfile::tempdir().unwrap();
    let inputs = Inputs {
        masked: true,
        ..inputs(secrets.path())
    };
    let rendered = render(TEMPLATE, &inputs).unwrap();
    let other = Inputs {
        agent_secret: AgentSecret::default(),
        ..inputs.clone()
    };
    assert_eq!(
        render(TEMPLATE, &other).unwrap(),
        rendered,
        "of a secret nothing is left"
    );
    for secret in ["battery staple", inputs.agent_secret.reveal()] {
        assert!(!rendered.contains(secret));
    }
}

#[test]
fn refuses_an_absent_password() {
    let secrets = tempfile::tempdir().unwrap();
    let inputs = inputs(secrets.path());
    std::fs::remove_file(secrets.path().join("default")).unwrap();
    let error = render(TEMPLATE, &inputs).unwrap_err().to_string();
    assert!(error.contains("secretRead"), "{error}");
}

#[derive(serde::Deserialize)]
struct Parameters {
    parameters: Vec<Parameter>,
}

#[derive(serde::Deserialize)]
struct Parameter {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    dynamic: bool,
    #[serde(default)]
    minimum: String,
    #[serde(default)]
    maximum: String,
    #[serde(default)]
    values: Vec<String>,
    default: String,
    description: String,
}

impl Parameter {
    /// A value that is allowed and is not the default.
    fn other(&self) -> String {
        match self.kind.as_str() {
            // the largest is more than the memory of these tests
            "Integer" if self.name == "maxmemory" => self.minimum.clone(),
            "Integer" if self.default != self.maximum => self.maximum.clone(),
            "Integer" => self.minimum.clone(),
            "Boolean" => if self.default == "yes" { "no" } else { "yes" }.to_owned(),
            "Enumeration" => self
                .values
                .iter()
                .find(|value| **value != self.default)
                .unwrap()
                .clone(),
            "BufferLimit" => "1 2 3".to_owned(),
            "Letters" => self.values.concat(),
            other => panic!("{}: unknown type {other}", self.name),
        }
    }
}

#[test]
fn every_parameter_reaches_the_configuration() {
    let secrets = tempfile::tempdir().unwrap();
    let base = inputs(secrets.path());
    let usual = render(TEMPLATE, &base).unwrap();
    let listed: Parameters = serde_yaml::from_str(PARAMETERS).unwrap();
    for parameter in &listed.parameters {
        let mut changed = base.clone();
        changed
            .values
            .insert(format!("/redis/{}", parameter.name), parameter.other());
        let rendered = render(TEMPLATE, &changed).unwrap();
        assert_ne!(rendered, usual, "{} has no effect", parameter.name);
        assert!(!parameter.description.is_empty());
    }
}

#[test]
fn parameters_and_values_name_the_same_things() {
    let listed: Parameters = serde_yaml::from_str(PARAMETERS).unwrap();
    let values = flatten(&serde_yaml::from_str(VALUES).unwrap());
    let listed: BTreeMap<String, String> = listed
        .parameters
        .into_iter()
        .map(|parameter| (format!("/redis/{}", parameter.name), parameter.default))
        .collect();
    assert_eq!(listed, values);
}

#[derive(serde::Deserialize)]
struct Figures {
    limit: i64,
    data: i64,
    maxmemory: i64,
    most: i64,
    backlog: i64,
    buffers: i64,
    subscribers: i64,
}

#[test]
fn memory_is_shared_out_as_the_package_states() {
    let secrets = tempfile::tempdir().unwrap();
    let figures: Vec<Figures> = serde_yaml::from_str(MEMORY).unwrap();
    assert!(figures.len() > 5);
    for figures in figures {
        let mut inputs = inputs(secrets.path());
        inputs
            .env
            .insert("MEMORY_LIMIT".to_owned(), figures.limit.to_string());
        let rendered = render(TEMPLATE, &inputs).unwrap();
        let number = |option: &str| -> i64 { line(&rendered, option).unwrap().parse().unwrap() };
        assert_eq!(number("maxmemory"), figures.maxmemory);
        assert_eq!(number("repl-backlog-size"), figures.backlog);
        let buffers = format!("{} 0 0", figures.buffers);
        let (soft, hard) = (figures.subscribers / 4, figures.subscribers);
        let limits: Vec<_> = rendered
            .lines()
            .filter_map(|line| line.strip_prefix("client-output-buffer-limit "))
            .collect();
        assert!(limits.contains(&format!("replica {buffers}").as_str()));
        assert!(limits.contains(&format!("pubsub {hard} {soft} 60").as_str()));
        let all = ("/redis/maxmemory".to_owned(), i64::MAX.to_string());
        inputs.values.extend([all]);
        let rendered = render(TEMPLATE, &inputs).unwrap();
        assert_eq!(
            line(&rendered, "maxmemory"),
            Some(figures.most.to_string().as_str())
        );
    }
}

#[test]
fn timing_that_elections_rest_on_cannot_be_set() {
    let secrets = tempfile::tempdir().unwrap();
    let given = inputs(secrets.path());
    let usual = render(TEMPLATE, &given).unwrap();
    for (ours, value) in [
        ("repl-diskless-sync-delay", "0"),
        ("repl-timeout", "60"),
        ("min-replicas-max-lag", "5"),
        ("repl-backlog-size", "67108864"),
    ] {
        assert_eq!(line(&usual, ours), Some(value));
        let mut inputs = given.clone();
        inputs
            .values
            .insert(format!("/redis/{ours}"), "7777777".to_owned());
        assert_eq!(render(TEMPLATE, &inputs).unwrap(), usual, "{ours}");
    }
}

#[test]
fn static_parameters_are_those_redis_cannot_set() {
    let listed: Parameters = serde_yaml::from_str(PARAMETERS).unwrap();
    let fixed: Vec<&str> = listed
        .parameters
        .iter()
        .filter(|parameter| !parameter.dynamic)
        .map(|parameter| parameter.name.as_str())
        .collect();
    // appendfsync: the unit agent and the server share it, so it is decided at the start
    assert_eq!(
        fixed,
        ["appendfsync", "databases", "io-threads", "tcp-backlog"]
    );
}

#[test]
fn the_pod_template_carries_unit_yaml() {
    let pod: serde_yaml::Value = serde_yaml::from_str(POD).unwrap();
    let carried = pod["metadata"]["annotations"]["upm.syntropycloud.io/unit.yaml"]
        .as_str()
        .unwrap();
    assert_eq!(carried, UNIT);
    let unit: crate::config::UnitConfig = serde_yaml::from_str(UNIT).unwrap();
    assert_eq!(unit.kind, "redis");
    let containers = pod["template"]["spec"]["containers"].as_sequence().unwrap();
    assert_eq!(containers[0]["name"].as_str(), Some("redis"));
    assert_eq!(containers[0]["image"].as_str(), Some("redis:7.0.15"));
}

#[test]
fn reads_values_like_the_packages_of_today() {
    let tree = serde_yaml::from_str("a: {b: 1, c: [x, y]}\nd: true\n").unwrap();
    let inputs = Inputs {
        values: flatten(&tree),
        ..Inputs::default()
    };
    let say = |template: &str| render(template, &inputs).unwrap();
    assert_eq!(say(r#"{{ getv "/a/b" }}{{ getv "/no" "z" }}"#), "1z");
    assert_eq!(
        say(r#"{{ range getvs "/a/c/*" }}{{ . }},{{ end }}"#),
        "x,y,"
    );
    assert_eq!(say(r#"{{ range ls "/a" }}{{ . }} {{ end }}"#), "b c ");
    assert_eq!(say(r#"{{ if exists "/d" }}yes{{ end }}"#), "yes");
    assert_eq!(
        say(r#"{{ range gets "/a/c/*" }}{{ .Key }}={{ .Value }};{{ end }}"#),
        "/a/c/0=x;/a/c/1=y;"
    );
    assert_eq!(
        say(r#"{{ add 1 2 }} {{ div 7 2 }} {{ mod 7 4 }} {{ mul (atoi "6") 7 }}"#),
        "3 3 3 42"
    );
    assert_eq!(
        say(
            r#"{{ join (split "a,b" ",") "-" }} {{ "x" | toUpper }} {{ filePathJoin "/a/" "/b" "c" }}"#
        ),
        "a-b X /a/b/c"
    );
    assert!(
        render(r#"{{ getv "/no" }}"#, &inputs)
            .unwrap_err()
            .to_string()
            .contains("/no")
    );
    assert!(render("{{ div 1 0 }}", &inputs).is_err());
}

#[test]
fn decrypts_passwords_of_earlier_versions() {
    // made with `openssl enc -aes-256-ctr -K … -iv …` over "s3cret"
    let key = b"0123456789abcdef0123456789abcdef";
    let sealed = hex::decode(include_str!("testdata/aes-ctr.hex").trim()).unwrap();
    assert_eq!(functions::decrypt(key, &sealed).as_deref(), Some("s3cret"));
    assert_eq!(functions::decrypt(b"short", &sealed), None);
    assert_eq!(functions::decrypt(key, &sealed[..9]), None);
}
