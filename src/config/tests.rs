//! The sources together: who wins, what is refused and how, and that `--check` says it all.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::definition::{About, Setting};
use super::environment::CONFIG;
use super::kind::Kind;
use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
}

/// What the three sources together give. `file` is the content of the settings file.
fn load_all(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Loaded, String> {
    let cli = Cli::try_parse_from(["fanline"].iter().chain(flags)).map_err(|error| error.to_string())?;
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let (mut problems, mut layers) = (Vec::new(), Layers::default());
    let environment = Environment::read(variables, &mut problems);
    file::parse(file, Path::new("fanline.toml"), &mut layers, &mut problems);
    environment.add_to(&mut layers);
    cli.serve.add_to(&mut layers);
    let mut reader = Reader::new(&layers, problems);
    let settings = Settings::read(&mut reader);
    reader.finish().map(|report| Loaded { settings, report }).map_err(|error| error.to_string())
}

fn settings(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Settings {
    load_all(flags, variables, file).unwrap().settings
}

fn error(flags: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    load_all(flags, variables, file).unwrap_err()
}

fn addresses(settings: &Settings) -> Vec<String> {
    settings.listen.iter().map(ToString::to_string).collect()
}

#[test]
fn every_default_is_one_of_the_values_of_its_setting() {
    let settings = settings(&[], &[], "");
    assert_eq!(addresses(&settings), ["127.0.0.1:8000"]);
    assert_eq!(settings.history, 1000);
    assert_eq!(settings.history_bytes, 64 << 20);
    assert_eq!(settings.topic_ttl, Duration::from_secs(3600));
    assert_eq!(settings.stdin, None);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = "history = 1\nretry = \"1s\"\nmax_topics = 1";
    let variables = [("FANLINE_HISTORY", "2"), ("FANLINE_RETRY", "2s")];
    let settings = settings(&["--history", "3"], &variables, file);
    assert_eq!((settings.history, settings.retry, settings.max_topics), (3, Duration::from_secs(2), 1));
}

#[test]
fn a_variable_of_our_own_wins_over_the_conventional_one() {
    let variables = [("FANLINE_LOG_LEVEL", "warn"), ("LOG_LEVEL", "DEBUG")];
    assert_eq!(settings(&[], &variables, "").log_filter, "warn");
    assert_eq!(settings(&[], &variables[1..], "log_level = \"error\"").log_filter, "debug");
}

#[test]
fn host_and_port_change_the_first_address() {
    let platform = [("HOST", "0.0.0.0"), ("PORT", "80")];
    assert_eq!(addresses(&settings(&[], &platform, "")), ["0.0.0.0:80"]);
    assert_eq!(
        addresses(&settings(&["--port=9"], &platform, "listen = [\"[::1]:1\", \"[::1]:2\"]")),
        ["0.0.0.0:9", "[::1]:2"]
    );
    let listen = ["--listen", "127.0.0.1:5", "--listen", "127.0.0.1:6"];
    assert_eq!(addresses(&settings(&listen, &platform, "")), ["127.0.0.1:5", "127.0.0.1:6"]);
    assert_eq!(
        addresses(&settings(&[], &[("FANLINE_LISTEN", "1.1.1.1:1,1.1.1.1:2"), platform[1]], "")),
        ["1.1.1.1:1", "1.1.1.1:2"]
    );
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    assert_eq!(settings(&[], &[("FANLINE_HISTORY", ""), ("PORT", "")], "history = 7").history, 7);
}

#[test]
fn a_switch_is_a_bare_flag_or_has_a_value() {
    assert!(settings(&["--demo"], &[], "").demo);
    assert!(!settings(&["--demo=false"], &[("FANLINE_DEMO", "true")], "").demo);
    assert!(settings(&[], &[], "demo = true").demo);
}

#[test]
fn lines_of_standard_input_have_a_topic_and_ndjson_has_none() {
    let topic = fanline::topic::Topic::new("log").unwrap();
    let lines = settings(&["--stdin", "--topic", "log"], &[], "");
    assert_eq!(lines.stdin, Some(crate::producer::stdin::Format::Lines { topic }));
    let ndjson = settings(&["--stdin", "--stdin-format", "ndjson"], &[], "");
    assert_eq!(ndjson.stdin, Some(crate::producer::stdin::Format::Ndjson));
    assert!(error(&["--stdin"], &[], "").starts_with("stdin needs a topic for its lines: add --topic"));
    assert!(error(&[], &[], "topic = \"log\"").contains("add --stdin"));
    assert!(error(&["--stdin", "--stdin-format=ndjson", "--topic=t"], &[], "").contains("names its own topic"));
}

#[test]
fn an_error_names_the_setting_the_source_the_value_and_what_is_allowed() {
    let allowed = "must be 1 to 16777216 events";
    assert_eq!(error(&["--history", "0"], &[], ""), format!("history = \"0\" (flag --history): {allowed}"));
    assert_eq!(error(&["--history", "-5"], &[], ""), format!("history = \"-5\" (flag --history): {allowed}"));
    assert_eq!(
        error(&[], &[("FANLINE_HISTORY", "x")], ""),
        format!("history = \"x\" (environment FANLINE_HISTORY): {allowed}")
    );
    assert_eq!(
        error(&[], &[], "\nhistory = 1_000_000_000"),
        format!("history = \"1000000000\" (file fanline.toml, line 2): {allowed}")
    );
    assert_eq!(
        error(&[], &[("PORT", "http")], ""),
        "port = \"http\" (environment PORT): must be 0 (any free port) to 65535"
    );
    assert_eq!(
        error(&[], &[], "history = [1]"),
        "history (file fanline.toml, line 1): must be a string or an integer, not a TOML array"
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let errors = error(&["--drain=1d"], &[("FANLINE_RETRY", "5")], "max_topics = 0");
    assert_eq!(errors.lines().count(), 3, "{errors}");
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_one() {
    assert_eq!(
        error(&[], &[], "histroy = 5"),
        "histroy (file fanline.toml, line 1): there is no such setting; history is the nearest"
    );
    assert_eq!(
        error(&[], &[("FANLINE_MAX_TOPIC", "5")], ""),
        "FANLINE_MAX_TOPIC (environment): there is no such setting; FANLINE_MAX_TOPICS is the nearest"
    );
    assert!(error(&[], &[], "max-topics = 5").contains("max_topics is the nearest"));
    assert!(error(&[], &[], "zzz = 5").contains("fanline serve --help"));
    assert!(error(&["--histroy", "5"], &[], "").contains("--history"));
}

#[test]
fn variables_of_other_commands_and_programs_are_let_be() {
    settings(&[], &[("FANLINE_URL", "http://x"), ("FANLINE_CONFIG", "x"), ("HISTORY", "x")], "");
}

#[test]
fn a_variable_that_is_not_unicode_is_refused_only_where_it_concerns_the_server() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || OsString::from_vec(vec![0xff]);
    let mut problems = Vec::new();
    Environment::read([(OsString::from("FANLINE_RETRY"), bad()), (OsString::from("OTHER"), bad())], &mut problems);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["FANLINE_RETRY (environment): its value is not valid UTF-8"]);
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_place() {
    let error = error(&[], &[], "history = 5\nretry =");
    assert!(error.starts_with("config = \"fanline.toml\": the file is not TOML"), "{error}");
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_refused_with_who_named_it() {
    let cli = Cli::try_parse_from(["fanline", "--config", "/nowhere/fanline.toml"]).unwrap();
    let error = load(&cli.serve, []).unwrap_err().to_string();
    assert!(
        error.starts_with("config = \"/nowhere/fanline.toml\" (flag --config): the file cannot be read: "),
        "{error}"
    );
    let none = Cli::try_parse_from(["fanline"]).unwrap();
    let error = load(&none.serve, [(CONFIG.into(), "/nowhere/else.toml".into())]).unwrap_err().to_string();
    assert!(error.starts_with("config = \"/nowhere/else.toml\" (environment FANLINE_CONFIG): "), "{error}");
}

#[test]
fn a_body_has_room_for_the_largest_event() {
    let error = error(&["--max-event-bytes", "2MiB"], &[], "");
    assert!(error.starts_with("max_body_bytes = 1MiB is less than max_event_bytes = 2MiB"), "{error}");
}

#[test]
fn a_limit_that_makes_another_meaningless_is_refused() {
    let error = error(&["--max-line-bytes=8KiB"], &[], "");
    assert!(error.contains("max_line_bytes = 8KiB is less than max_event_bytes = 64KiB"), "{error}");
}

#[test]
fn a_limit_on_connections_is_a_number_or_none_or_what_the_files_allow() {
    let max = |text: &str| settings(&["--max-connections", text], &[], "").limits.limits.max_connections;
    assert_eq!((max("auto"), max("0"), max("5")), (None, None, Some(5)));
    let error = error(&["--publish-rate=0"], &[], "");
    assert!(error.contains("publish_rate") && error.contains("such as 100:500"), "{error}");
}

#[test]
fn every_setting_is_in_the_printed_output_with_its_source() {
    let loaded = load_all(&["--history", "5"], &[("PORT", "1"), ("FANLINE_RETRY", "1s")], "drain = \"1s\"").unwrap();
    let printed = loaded.report.to_string();
    // `host` and `port` are part of `listen`.
    for name in
        catalog::ALL.iter().map(|definition| definition.about().name).filter(|name| !["host", "port"].contains(name))
    {
        let lines = printed
            .lines()
            .map(|line| line.trim_start_matches("# "))
            .filter(|line| line.starts_with(&format!("{name} ")));
        assert_eq!(lines.count(), 1, "{name} in {printed}");
    }
    let line = |start: &str| {
        printed.lines().find(|line| line.starts_with(start)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("history ="), "history = 5 # flag --history");
    assert_eq!(line("retry"), "retry = \"1s\" # environment FANLINE_RETRY");
    assert_eq!(line("drain"), "drain = \"1s\" # file fanline.toml, line 1");
    assert_eq!(line("listen"), "listen = [\"127.0.0.1:1\"] # default; port: environment PORT");
    assert_eq!(line("max_event_bytes"), "max_event_bytes = \"64KiB\" # default");
}

#[test]
fn the_printed_output_reads_back_as_a_file_of_the_same_settings() {
    let flags = [
        "--listen=127.0.0.1:1",
        "--listen=[::1]:2",
        "--shards=3",
        "--send-buffer=5000",
        "--history=7",
        "--history-bytes=2MiB",
        "--firehose-history=64",
        "--topic-ttl=90s",
        "--max-event-bytes=1000",
        "--max-body-bytes=2KiB",
        "--max-topics=8",
        "--max-connections=100",
        "--max-connections-per-address=7",
        "--connect-rate=5:50",
        "--publish-rate=1000",
        "--publish-rate-per-key=100:200",
        "--max-firehose=9",
        "--max-patterns=3",
        "--max-wildcards=4",
        "--max-query-bytes=4KiB",
        "--max-head-bytes=16KiB",
        "--max-headers=50",
        "--max-line-bytes=3KiB",
        "--body-timeout=9s",
        "--upload-timeout=1m",
        "--heartbeat=10s",
        "--retry=1500ms",
        "--write-timeout=11s",
        "--head-timeout=12s",
        "--drain=0s",
        "--demo",
        "--stdin",
        "--topic=a/b.c:ü\"\\",
        "--jwt-public-key=a.pem,b.pem",
        "--jwt-audience=fanline,other",
        "--jwt-issuer=https://login.example/",
        "--jwt-leeway=0s",
        "--anonymous-subscribe=news,orders:*",
        "--anonymous-publish=**",
        "--anonymous-metrics",
        "--authorize-timeout=1s",
        "--authorize-concurrency=3",
        "--authorize-cache=0s",
        "--log-level=info,hyper=warn",
        "--log-format=json",
    ];
    for flags in [&[][..], &flags, &["--stdin", "--stdin-format=ndjson"]] {
        let printed = load_all(flags, &[], "").unwrap();
        let read_back = settings(&[], &[], &printed.report.to_string());
        assert_eq!(read_back, printed.settings, "{}", printed.report);
    }
}

#[test]
fn every_flag_of_the_help_says_its_default_and_its_variable() {
    for definition in catalog::ALL {
        let (help, about) = (definition.help(), definition.about());
        assert!(help.contains("default: "), "{help}");
        assert!(help.contains(&format!("env: FANLINE_{}", about.name.to_uppercase())), "{help}");
    }
}

#[test]
fn the_command_line_is_sound() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn a_secret_is_neither_printed_nor_part_of_an_error() {
    struct Secret;
    impl Kind for Secret {
        type Value = String;
        const SECRET: bool = true;
        fn parse(&self, text: &str) -> Result<String, String> {
            if text.len() < 8 { Err("must have at least 8 characters".to_owned()) } else { Ok(text.to_owned()) }
        }
        fn allowed(&self) -> String {
            String::new()
        }
        fn write(&self, value: &String) -> Option<toml::Value> {
            Some(value.as_str().into())
        }
    }
    let setting = Setting { about: About::new("key", "Auth", "KEY", "an unsafe default", "A key"), kind: Secret };
    let with = |text: &str| {
        let mut layers = Layers::default();
        layers.add("key", text.to_owned(), Source::Variable("FANLINE_KEY".to_owned()));
        let mut reader = Reader::new(&layers, Vec::new());
        reader.get(&setting);
        reader.finish().map(|report| report.to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(with("hunter22").unwrap(), "# Auth\n# key = \"********\"  # environment FANLINE_KEY\n");
    assert_eq!(with("short").unwrap_err(), "key (environment FANLINE_KEY): must have at least 8 characters");
}

#[test]
fn the_tables_of_keys_are_read_and_each_wrong_one_is_named_with_its_line() {
    let hash = |key: &str| fanline::auth::KeyDigest::of(key).to_string();
    let file = format!(
        "history = 5\n[[keys]]\nname = \"shop\"\nhash = \"{}\"\npublish = [\"orders:*\"]\n\
         [[keys]]\nname = \"ops\"\nhash = \"{}\"\nsubscribe = \"a, b:*\"\nadmin = true\n",
        hash("a"),
        hash("b")
    );
    let loaded = load_all(&[], &[], &file).unwrap();
    let [shop, ops] = &loaded.settings.access.keys[..] else { panic!("{:?}", loaded.settings.access.keys) };
    assert_eq!((shop.name.as_str(), shop.publish.to_string(), shop.admin), ("shop", "orders:*".into(), false));
    assert_eq!((ops.name.as_str(), ops.subscribe.to_string(), ops.admin), ("ops", "a,b:*".into(), true));
    assert!(loaded.report.to_string().contains("# [[keys]] of \"shop\", \"ops\"  "), "{}", loaded.report);

    let good = format!("name = \"x\"\nhash = \"{}\"\nadmin = true", hash("x"));
    for (file, line, what) in [
        ("keys = 5".to_owned(), 1, "[[keys]]"),
        ("\n[[keys]]\nhash = \"x\"".to_owned(), 2, "a key has a name"),
        ("[[keys]]\nname = \"x\"".to_owned(), 1, "a key has a hash"),
        ("[[keys]]\nname = \"x\"\nhash = \"s3cret\"".to_owned(), 3, "never the key itself"),
        (format!("[[keys]]\n{good}\nsubscibe = []"), 5, "\"subscibe\" is none of"),
        (format!("[[keys]]\n{good}\npublish = [\"a**\"]"), 5, "\"a**\""),
        (format!("[[keys]]\n{good}\npublish = [1]"), 5, "array of topics"),
        (format!("[[keys]]\n{}", good.replace("true", "1")), 4, "true or false"),
        (format!("[[keys]]\n{}", good.replace("true", "false")), 1, "may do nothing"),
        (format!("[[keys]]\n{good}\n[[keys]]\n{good}"), 5, "stands twice"),
        (format!("[[keys]]\n{good}\n[[keys]]\n{}", good.replace("\"x\"", "\"y\"")), 5, "this hash stands twice"),
    ] {
        let error = error(&[], &[], &file);
        assert!(error.contains(&format!("keys (file fanline.toml, line {line}): ")), "{file}: {error}");
        assert!(error.contains(what) && !error.contains("s3cret"), "{file}: {error}");
    }
}

#[test]
fn secrets_of_tokens_are_lists_and_never_shown() {
    let one = "0123456789abcdef0123456789abcdef";
    let loaded = load_all(&["--jwt-secret", one, "--jwt-secret=@/run/secret"], &[], "").unwrap();
    assert_eq!(loaded.settings.access.secrets.len(), 2);
    let shown = format!("{:?} {}", loaded.settings, loaded.report);
    assert!(!shown.contains(one) && shown.contains("/run/secret"), "{shown}");
    assert!(error(&["--jwt-secret=hunter2"], &[], "").contains("at least 32 bytes, this one has 7"));
    assert!(!error(&["--jwt-secret=hunter2"], &[], "").contains("hunter2"));
    assert!(error(&["--jwt-audience=x"], &[], "").contains("add jwt_secret, jwt_public_key or jwks"));
    let url = ["--authorize-url=https://me:hunter2@x/"];
    assert!(error(&url, &[], "").contains("without name and password") && !error(&url, &[], "").contains("hunter2"));
}
