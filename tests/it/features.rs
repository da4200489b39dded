//! Features of the crate that the program may be built without.

use crate::process::{Directory, Process, fanline};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    Process::run(fanline(args))
}

#[test]
fn version_lists_the_features() {
    let sign = |is_enabled| if is_enabled { '+' } else { '-' };
    let features = format!("features: {}auth {}redis", sign(cfg!(feature = "auth")), sign(cfg!(feature = "redis")));
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!((code, stdout), (Some(0), format!("fanline {}\n{features}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&["-V"]).1, format!("fanline {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_lists_the_settings_and_commands_of_every_feature() {
    // Without line breaks.
    let help = run(&["serve", "--help"]).1.split_whitespace().collect::<Vec<_>>().join(" ");
    for flag in ["--jwt-secret", "--jwks", "--authorize-url", "--redis", "--redis-key"] {
        assert!(help.contains(flag), "{flag}");
    }
    let is_marked =
        |feature: &str| help.contains(&format!("needs the feature {feature}, which this program is built without"));
    assert_eq!((is_marked("auth"), is_marked("redis")), (cfg!(not(feature = "auth")), cfg!(not(feature = "redis"))));
    assert!(run(&["--help"]).1.contains("token "));
}

/// The reason for the exit code 2.
#[cfg(not(all(feature = "auth", feature = "redis")))]
fn missing(feature: &str) -> String {
    format!("needs the feature {feature}, which this program is built without; add `--features full` to the command")
}

#[test]
#[cfg(not(feature = "redis"))]
fn redis_without_its_feature_is_an_error_with_the_remedy() {
    let directory = Directory::new("no-redis");
    let config = directory.write("fanline.toml", "\nredis = \"redis://me:hunter2@127.0.0.1\"");
    for (args, place) in [
        (&["--redis", "redis://me:hunter2@127.0.0.1"][..], "redis (flag --redis): "),
        (&["--redis-wait", "1"], "redis_wait = \"1\" (flag --redis-wait): "),
        (&["--config", &config], "fanline.toml, line 2): "),
    ] {
        let (code, _, stderr) = run(&[&["serve", "--check"], args].concat());
        assert_eq!(code, Some(2));
        assert!(stderr.contains(place) && stderr.contains(&missing("redis")), "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
#[cfg(not(feature = "auth"))]
fn tokens_without_their_feature_are_an_error_with_the_remedy() {
    for (args, place) in [
        (&["serve", "--check", "--jwt-secret", "hunter2"][..], "jwt_secret (flag --jwt-secret): "),
        (
            &["serve", "--check", "--authorize-url", "http://127.0.0.1/?hunter2"],
            "authorize_url (flag --authorize-url): ",
        ),
        (&["serve", "--check", "--jwt-audience", "x"], "jwt_audience = \"x\" (flag --jwt-audience): "),
        (&["token", "--secret", "hunter2", "--subscribe", "a"], "token: "),
        (&["token"], "token: "),
        (&["health", "--url", "https://127.0.0.1"], "https:// "),
    ] {
        let (code, _, stderr) = run(args);
        assert_eq!(code, Some(2));
        assert!(stderr.contains(&format!("{place}{}", missing("auth"))), "{args:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn settings_of_missing_features_may_have_their_defaults() {
    let (code, printed, _) = run(&["serve", "--check"]);
    assert_eq!(code, Some(0));
    let directory = Directory::new("defaults");
    let config = directory.write("fanline.toml", &printed);
    let (code, _, stderr) = run(&["serve", "--check", "--config", &config]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}
