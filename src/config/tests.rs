//! All sources together: precedence, errors, `--check`, and the table of the documentation.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::environment::CONFIG;
use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Merges the three sources. `file` is the content of the settings file.
fn load_all(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Loaded, String> {
    let cli = Cli::try_parse_from(["fanline"].iter().chain(flags)).map_err(|error| error.to_string())?;
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let (mut values, mut problems) = (Values::default(), Vec::new());
    environment::read(variables, &mut values, &mut problems);
    file::parse(file, Path::new("fanline.toml"), &mut values, &mut problems);
    cli.serve.add_to(&mut values);
    parse(&values, problems).map_err(|error| error.to_string())
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
fn every_default_is_a_valid_value() {
    let settings = settings(&[], &[], "");
    assert_eq!(addresses(&settings), ["127.0.0.1:8000"]);
    assert_eq!(settings.hub.history, 20_000);
    assert_eq!(settings.hub.history_bytes, 64 << 20);
    assert_eq!(settings.hub.topic_ttl, Duration::from_secs(3600));
    assert_eq!(settings.stdin(), None);
}

#[test]
fn flag_overrides_environment_which_overrides_file() {
    let file = "history = 1\nretry = \"1s\"\nmax_topics = 1";
    let variables = [("FANLINE_HISTORY", "2"), ("FANLINE_RETRY", "2s")];
    let settings = settings(&["--history", "3"], &variables, file);
    assert_eq!(
        (settings.hub.history, settings.streams.retry, settings.http.max_topics),
        (3, Duration::from_secs(2), 1)
    );
}

#[test]
fn durations_are_plain_seconds_or_have_a_unit_in_every_source() {
    let settings = settings(
        &["--heartbeat", "5"],
        &[("FANLINE_DRAIN", "2.5")],
        "retry = 4\nhead_timeout = 0.5\ntopic_ttl = \"2m\"",
    );
    assert_eq!((settings.streams.heartbeat, settings.drain), (Duration::from_secs(5), Duration::from_millis(2500)));
    assert_eq!(
        (settings.streams.retry, settings.http.head_timeout),
        (Duration::from_secs(4), Duration::from_millis(500))
    );
    assert_eq!(settings.hub.topic_ttl, Duration::from_secs(120));
    let error = error(&[], &[], "history = 1.5");
    assert_eq!(error, "history = \"1.5\" (file fanline.toml, line 1): must be 1 to 16777216 events");
}

#[test]
fn fanline_variable_overrides_conventional_one() {
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
fn empty_variable_counts_as_unset() {
    assert_eq!(settings(&[], &[("FANLINE_HISTORY", ""), ("PORT", "")], "history = 7").hub.history, 7);
}

#[test]
fn switch_is_a_bare_flag_or_has_a_value() {
    assert!(settings(&["--demo"], &[], "").demo);
    assert!(!settings(&["--demo=false"], &[("FANLINE_DEMO", "true")], "").demo);
    assert!(settings(&[], &[], "demo = true").demo);
}

#[test]
fn stdin_lines_need_a_topic_and_ndjson_excludes_it() {
    let topic = fanline::topic::Topic::new("log").unwrap();
    let lines = settings(&["--stdin", "--topic", "log"], &[], "");
    assert_eq!(lines.stdin(), Some(crate::producer::stdin::Format::Lines { topic }));
    let ndjson = settings(&["--stdin", "--stdin-format", "ndjson"], &[], "");
    assert_eq!(ndjson.stdin(), Some(crate::producer::stdin::Format::Ndjson));
    assert!(error(&["--stdin"], &[], "").starts_with("stdin needs a topic for its lines: add --topic"));
    assert!(error(&[], &[], "topic = \"log\"").contains("add --stdin"));
    assert!(error(&["--stdin", "--stdin-format=ndjson", "--topic=t"], &[], "").contains("names its own topic"));
}

#[test]
fn error_names_setting_value_source_and_rule() {
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
        "history (file fanline.toml, line 1): must be a string or a number, not a TOML array"
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    let errors = error(&["--drain=1d"], &[("FANLINE_RETRY", "5x")], "max_topics = 0");
    assert_eq!(errors.lines().count(), 3, "{errors}");
}

#[test]
fn unknown_name_is_rejected_with_the_nearest_one() {
    assert_eq!(
        error(&[], &[], "histroy = 5"),
        "histroy (file fanline.toml, line 1): no such setting; did you mean `history`?"
    );
    assert_eq!(
        error(&[], &[("FANLINE_MAX_TOPIC", "5")], ""),
        "FANLINE_MAX_TOPIC (environment): no such setting; did you mean `FANLINE_MAX_TOPICS`?"
    );
    assert!(error(&[], &[], "max-topics = 5").contains("did you mean `max_topics`?"));
    assert!(error(&[], &[], "zzz = 5").contains("fanline serve --help"));
    assert_eq!(
        error(&[], &[], "[server]\nport = 1"),
        "[server] (file fanline.toml, line 1): settings are keys outside of tables, such as port = 8000; only [[keys]] are \
         tables"
    );
    assert!(error(&["--histroy", "5"], &[], "").contains("--history"));
}

#[test]
fn variables_of_other_commands_and_programs_are_ignored() {
    settings(&[], &[("FANLINE_URL", "http://x"), ("FANLINE_CONFIG", "x"), ("HISTORY", "x")], "");
}

#[test]
fn non_unicode_variable_is_rejected_only_if_it_is_a_setting() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || OsString::from_vec(vec![0xff]);
    let mut problems = Vec::new();
    let variables = [(OsString::from("FANLINE_RETRY"), bad()), (OsString::from("OTHER"), bad())];
    environment::read(variables, &mut Values::default(), &mut problems);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["FANLINE_RETRY (environment): its value is not valid UTF-8"]);
}

#[test]
fn toml_syntax_error_names_line_and_column() {
    let error = error(&[], &[], "history = 5\nretry =");
    assert!(error.starts_with("config = \"fanline.toml\": the file is not TOML"), "{error}");
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn unreadable_file_error_names_the_flag_or_variable() {
    let cli = Cli::try_parse_from(["fanline", "--config", "/nowhere/fanline.toml"]).unwrap();
    let error = load(Some(&cli.serve), []).unwrap_err().to_string();
    assert!(
        error.starts_with("config = \"/nowhere/fanline.toml\" (flag --config): the file cannot be read: "),
        "{error}"
    );
    let none = Cli::try_parse_from(["fanline"]).unwrap();
    let error = load(Some(&none.serve), [(CONFIG.into(), "/nowhere/else.toml".into())]).unwrap_err().to_string();
    assert!(error.starts_with("config = \"/nowhere/else.toml\" (environment FANLINE_CONFIG): "), "{error}");
}

#[test]
fn body_limit_below_event_limit_is_rejected() {
    let error = error(&["--max-event-bytes", "2MiB"], &[], "");
    assert!(error.starts_with("max_body_bytes = 1MiB is less than max_event_bytes = 2MiB"), "{error}");
}

#[test]
fn line_limit_below_event_limit_is_rejected() {
    let error = error(&["--max-line-bytes=8KiB"], &[], "");
    assert!(error.contains("max_line_bytes = 8KiB is less than max_event_bytes = 64KiB"), "{error}");
}

#[test]
fn max_connections_is_a_number_or_auto() {
    let max = |text: &str| settings(&["--max-connections", text], &[], "").limits.max_connections;
    assert_eq!((max("auto"), max("0"), max("5")), (None, None, Some(5)));
    let error = error(&["--publish-rate=0"], &[], "");
    assert!(error.contains("publish_rate") && error.contains("such as 100:500"), "{error}");
}

#[test]
fn check_prints_every_setting_with_its_source() {
    let loaded = load_all(&["--history", "5"], &[("PORT", "1"), ("FANLINE_RETRY", "1s")], "drain = \"1s\"").unwrap();
    let printed = loaded.report.to_string();
    // `host` and `port` are part of `listen`.
    for name in catalog::settings().iter().map(|setting| setting.name).filter(|name| !["host", "port"].contains(name)) {
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
#[cfg(feature = "auth")]
fn check_output_is_a_file_of_the_same_settings() {
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
        let changed: Vec<_> = changed(&read_back, &printed.settings).iter().map(|setting| setting.name).collect();
        assert_eq!(changed, [""; 0], "{}", printed.report);
    }
}

#[test]
fn help_of_every_flag_has_default_and_variable() {
    for setting in catalog::settings() {
        let help = setting.arg().get_help().unwrap().to_string();
        assert!(!setting.help.is_empty() && help.contains("default: "), "{help}");
        assert!(help.contains(&format!("env: FANLINE_{}", setting.name.to_uppercase())), "{help}");
    }
}

#[test]
fn clap_finds_no_contradiction_in_the_flags() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
#[cfg(feature = "redis")]
fn secret_is_neither_printed_nor_part_of_an_error() {
    let secrets: Vec<_> = catalog::settings().iter().filter(|s| s.form.is_secret).map(|s| s.name).collect();
    assert_eq!(secrets, ["jwt_secret", "jwks", "authorize_url", "redis"]);
    let variable = [("FANLINE_REDIS", "redis://me:hunter22@localhost/")];
    let printed = load_all(&[], &variable, "").unwrap().report.to_string();
    let line = printed.lines().find(|line| line.contains("redis =")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>().join(" "),
        "# redis = \"********\" # environment FANLINE_REDIS"
    );
    let error = error(&[], &[("FANLINE_REDIS", "hunter22")], "");
    assert!(error.starts_with("redis (environment FANLINE_REDIS): must begin with one of redis://"), "{error}");
}

#[test]
fn key_tables_are_read_and_errors_name_their_line() {
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
        (format!("\n[[keys]]\nhash = \"{}\"", hash("x")), 2, "missing field `name`"),
        ("[[keys]]\nname = \"x\"".to_owned(), 1, "missing field `hash`"),
        ("[[keys]]\nname = \"x\"\nhash = \"s3cret\"".to_owned(), 3, "never the key itself"),
        (format!("[[keys]]\n{good}\nsubscibe = []"), 5, "unknown field `subscibe`, expected one of"),
        (format!("[[keys]]\n{good}\npublish = [\"a**\"]"), 5, "\"a**\""),
        (format!("[[keys]]\n{good}\npublish = [1]"), 5, "array of topics"),
        (format!("[[keys]]\n{}", good.replace("true", "\"s3cret\"")), 4, "expected a boolean"),
        (format!("[[keys]]\n{}", good.replace("true", "false")), 1, "grants nothing"),
        (format!("[[keys]]\n{good}\n[[keys]]\n{good}"), 5, "is used twice"),
        (format!("[[keys]]\n{good}\n[[keys]]\n{}", good.replace("\"x\"", "\"y\"")), 5, "this hash is used twice"),
    ] {
        let error = error(&[], &[], &file);
        assert!(error.contains(&format!("keys (file fanline.toml, line {line}): ")), "{file}: {error}");
        assert!(error.contains(what) && !error.contains("s3cret"), "{file}: {error}");
    }
}

#[test]
#[cfg(feature = "auth")]
fn token_secrets_are_lists_and_never_shown() {
    let one = "0123456789abcdef0123456789abcdef";
    let loaded = load_all(&["--jwt-secret", one, "--jwt-secret=@/run/secret"], &[], "").unwrap();
    assert_eq!(loaded.settings.access.secrets.len(), 2);
    let shown = format!("{:?} {}", loaded.settings, loaded.report);
    assert!(!shown.contains(one) && shown.contains("/run/secret"), "{shown}");
    assert!(error(&["--jwt-secret=hunter2"], &[], "").contains("at least 32 bytes, this one has 7"));
    assert!(!error(&["--jwt-secret=hunter2"], &[], "").contains("hunter2"));
    assert!(error(&["--jwt-audience=x"], &[], "").contains("add jwt_secret, jwt_public_key or jwks"));
    let url = ["--authorize-url=https://me:hunter2@x/"];
    assert!(
        error(&url, &[], "").contains("without user name and password") && !error(&url, &[], "").contains("hunter2")
    );
}

#[test]
#[cfg(not(any(feature = "auth", feature = "redis")))]
fn value_that_needs_a_missing_feature_is_rejected_unless_it_is_the_default() {
    for (flag, feature) in [
        ("--redis=redis://me:hunter2@x", "redis"),
        ("--redis-wait=1", "redis"),
        ("--jwt-secret=hunter2", "auth"),
        ("--jwt-audience=x", "auth"),
        ("--authorize-url=http://x/?hunter2", "auth"),
    ] {
        let error = error(&[flag], &[], "");
        assert!(
            error.contains(&format!("needs the feature {feature}, which this program is built without")),
            "{error}"
        );
        assert!(error.lines().count() == 1 && !error.contains("hunter2"), "{error}");
    }
    settings(&["--redis-wait=0", "--jwt-leeway=10s"], &[], "");
}

#[test]
fn documented_table_of_settings_is_current() {
    let mut table = String::new();
    let mut heading = "";
    for setting in catalog::settings() {
        if setting.heading != heading {
            heading = setting.heading;
            table += &format!("\n## {heading}\n\n| setting | values | default | purpose |\n|---|---|---|---|\n");
        }
        let form = &setting.form;
        let values = if form.allowed.is_empty() { &form.value_name } else { &form.allowed };
        let variable = setting.conventional.map(|name| format!(" (also the variable `{name}`)")).unwrap_or_default();
        let reload = if setting.is_reloadable { " ↻" } else { "" };
        let cells = [values, &setting.default(), setting.help].map(|cell| cell.replace('*', "\\*"));
        table += &format!("| `{}`{reload} | {} |\n", setting.name, cells.join(" | ") + &variable);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (text, documented) = page.split_once("<!-- generated -->\n").expect("the mark before the table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{text}<!-- generated -->\n{table}")).unwrap();
    } else {
        assert!(
            documented == table,
            "docs/settings.md is out of date: run `UPDATE_DOCS=1 cargo test documented_table`"
        );
    }
}

/// The file of `fanline init` with all its lines in effect.
fn uncommented_template() -> String {
    let lines = template()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(assignment) if assignment.starts_with(|c: char| c.is_ascii_lowercase()) => assignment.to_owned(),
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>();
    lines.join("\n")
}

#[test]
fn template_sets_nothing() {
    assert!(template().lines().all(|line| line.is_empty() || line.starts_with('#')));
    let loaded = load_all(&[], &[], &template()).unwrap();
    assert!(!loaded.report.to_string().contains("file fanline.toml"));
}

#[test]
fn uncommented_template_sets_every_setting_to_its_default() {
    let file = uncommented_template();
    let (mut values, mut problems) = (Values::default(), Vec::new());
    file::parse(&file, Path::new("fanline.toml"), &mut values, &mut problems);
    for setting in catalog::settings() {
        assert!(values.get(setting.name).is_some(), "{} is missing:\n{file}", setting.name);
    }
    let loaded = parse(&values, problems).unwrap();
    let changed: Vec<_> =
        catalog::changed(&Settings::default(), &loaded.settings).iter().map(|setting| setting.name).collect();
    assert_eq!(changed, Vec::<&str>::new());
}
