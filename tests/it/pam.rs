//! PAM behind the real sshd: passwords and one-time codes in questions and answers, and accounts whose time is over.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    second_factor::{SEED, code_of, step_now},
    support::{
        home::{Home, by_key, with},
        mcp_client::{Does, Human, McpClient},
        openssh::{
            Agent, Sshd, SshdBuilder,
            pam::{PamService, has_pam, password_line, user_of_expired_account, user_of_expired_password},
        },
        session::text,
        wait::eventually,
    },
};

const QUESTIONS_ONLY: &str = "AuthenticationMethods keyboard-interactive";
const KEY_THEN_QUESTIONS: &str = "AuthenticationMethods publickey,keyboard-interactive";
/// The password by PAM, without its pause after a wrong one.
const PASSWORD_FIRST: &str = "auth requisite pam_unix.so nodelay";

/// As Debian's sshd asks PAM by itself.
fn debian() -> SshdBuilder {
    Sshd::builder().config("PasswordAuthentication no").pam("sshd")
}

fn by_password(sshd: &Sshd, username: &str, password: &str) -> Value {
    json!({"address": format!("127.0.0.1:{}", sshd.port()), "username": username, "password": password})
}

async fn client(home: &Home, human: &Human, newer: bool) -> McpClient {
    let env = [("HOME", home.path().to_str().unwrap()), ("SSH_KEY_ROOTS", "/"), ("RUST_LOG", "trace")];
    McpClient::stdio_with(&env, human, newer).await
}

/// A server that wants codes of [`SEED`], after its other questions and methods.
async fn of_codes(before: &str, methods: &str) -> Option<(PamService, tempfile::TempDir, Sshd)> {
    let directory = tempfile::tempdir().unwrap();
    let service = PamService::of_codes(directory.path(), before, SEED)?;
    let sshd = Sshd::builder().config("PasswordAuthentication no").config(methods).pam(service.name()).start().await?;
    Some((service, directory, sshd))
}

fn typed(steps: &[u64]) -> Human {
    Human::who(Does::Each(steps.iter().map(|step| json!({"answer_1": code_of(*step)})).collect()))
}

#[tokio::test]
async fn password_goes_to_pam_once_and_a_wrong_one_is_told() {
    if !has_pam() {
        return;
    }
    let Some(sshd) = debian().config(QUESTIONS_ONLY).start().await else { return };
    let (home, human) = (Home::new(), Human::who(Does::Accept(json!({"answer_1": "x"}))));
    let client = client(&home, &human, false).await;
    let (user, password) = (&sshd.user().name, sshd.user().password.as_deref().unwrap());
    let opened = client.call_and_answer("ssh_connect", by_password(&sshd, user, password)).await.success();
    assert_eq!(opened["auth_method"], "keyboard-interactive");
    let run = json!({"session_id": opened["session_id"], "command": "id -un"});
    assert_eq!(client.call("ssh_execute", run).await.success()["stdout"], format!("{user}\n"));

    let answer = client.call_and_answer("ssh_connect", by_password(&sshd, user, "wrong")).await;
    assert_eq!((answer.code(), answer.structured["why"].as_str()), ("auth_failed", Some("wrong_password")));
    assert_eq!(sshd.logged("PAM: Authentication failure"), 1, "one attempt: {}", sshd.log());
    let by_key = client.call_and_answer("ssh_connect", by_key(&sshd, user, json!({}))).await;
    assert_eq!((by_key.code(), by_key.structured["offered"].as_str()), ("auth_failed", Some("keyboard-interactive")));
    assert_eq!(human.asked().len(), 0, "nobody is asked for a password");
    assert_eq!(client.stderr().lines().find(|line| line.contains(password)), None);
}

#[tokio::test]
async fn key_and_then_pam_are_two_factors() {
    if !has_pam() {
        return;
    }
    let Some(sshd) = debian().config(KEY_THEN_QUESTIONS).start().await else { return };
    let (home, user) = (Home::new(), sshd.user());
    let client = client(&home, &Human::default(), true).await;
    let both = by_key(&sshd, &user.name, json!({"password": user.password}));
    let opened = client.call_and_answer("ssh_connect", both.clone()).await.success();
    assert_eq!(opened["auth_method"], "publickey,keyboard-interactive");
    let wrong = client.call_and_answer("ssh_connect", with(both.clone(), json!({"password": "wrong"}))).await;
    assert_eq!(wrong.structured["why"], "wrong_password", "{}", wrong.text);
    let none = client.call_and_answer("ssh_connect", with(both, json!({"password": null}))).await;
    assert_eq!((none.code(), none.structured["why"].as_str()), ("auth_failed", Some("password_wanted")));
}

#[tokio::test]
async fn expired_password_and_expired_account_are_told_apart_and_nothing_is_changed() {
    if !has_pam() {
        return;
    }
    let Some(sshd) = debian().config(QUESTIONS_ONLY).start().await else { return };
    let (home, human) = (Home::new(), Human::who(Does::Accept(json!({"answer_1": "x", "answer_2": "x"}))));
    let client = client(&home, &human, false).await;

    let user = user_of_expired_password();
    let before = password_line(&user.name);
    let right = by_password(&sshd, &user.name, user.password.as_deref().unwrap());
    let answer = client.call_and_answer("ssh_connect", right).await;
    assert_eq!((answer.code(), answer.structured["why"].as_str()), ("auth_failed", Some("password_expired")));
    assert!(text(&answer.structured["server_says"]).contains("required to change your password"), "{}", answer.text);
    assert_eq!(password_line(&user.name), before, "the old one was not given as the new one");
    assert_eq!(human.asked().len(), 0);

    let user = user_of_expired_account();
    let right = by_password(&sshd, &user.name, user.password.as_deref().unwrap());
    let answer = client.call_and_answer("ssh_connect", right).await;
    let told = (answer.code(), answer.structured["why"].as_str());
    assert_eq!(told, ("auth_failed", Some("locked_out")), "{}\n{}", answer.text, sshd.log());
    let wrong = client.call_and_answer("ssh_connect", by_password(&sshd, &user.name, "wrong")).await;
    assert_eq!(wrong.structured["why"], "wrong_password", "only who knows the password learns more: {}", wrong.text);
}

#[tokio::test]
async fn codes_of_a_person_are_taken_by_pam_after_a_key_and_after_a_password_in_either_era() {
    let Some((_service, _directory, sshd)) = of_codes("", KEY_THEN_QUESTIONS).await else { return };
    let (home, user, now) = (Home::new(), &sshd.user().name, step_now());
    for (newer, step) in [(false, now), (true, now + 1)] {
        let human = typed(&[step]);
        let client = client(&home, &human, newer).await;
        let opened = client.call_and_answer("ssh_connect", by_key(&sshd, user, json!({}))).await.success();
        assert_eq!(opened["auth_method"], "publickey,keyboard-interactive");
        let message = text(&human.asked()[0]["message"]);
        assert!(message.contains("> One-time password (OATH)"), "{message}");
        assert_eq!(client.stderr().lines().find(|line| line.contains(&code_of(step))), None);
        let again = typed(&[step]);
        let client = self::client(&home, &again, newer).await;
        let answer = client.call_and_answer("ssh_connect", by_key(&sshd, user, json!({}))).await;
        assert_eq!(answer.structured["why"], "wrong_code", "each code is taken once: {}", answer.text);
    }

    let Some((_service, _directory, sshd)) = of_codes(PASSWORD_FIRST, QUESTIONS_ONLY).await else { return };
    let password = sshd.user().password.as_deref().unwrap();
    for (newer, step) in [(false, now), (true, now + 1)] {
        let human = typed(&[step]);
        let client = client(&home, &human, newer).await;
        client.call_and_answer("ssh_connect", by_password(&sshd, user, password)).await.success();
        assert_eq!(human.asked().len(), 1, "for the code alone");
    }
}

#[tokio::test]
async fn codes_by_name_are_taken_by_pam_without_a_person_and_of_a_jump_host_too() {
    let Some((_service, _directory, sshd)) = of_codes(PASSWORD_FIRST, QUESTIONS_ONLY).await else { return };
    let Some((_hop_service, _hop_directory, hop)) = of_codes("", KEY_THEN_QUESTIONS).await else { return };
    let (home, user) = (Home::new(), sshd.user());
    let place = home.path().join(".config/ssh-mcp");
    std::fs::create_dir_all(&place).unwrap();
    let config = format!(
        "[secrets.pw]\nenv = \"PW\"\n[secrets.otp]\nenv = \"OTP\"\n[secrets.hop]\nenv = \"OTP\"\nhosts = \
         [\"127.0.0.1:{}\"]\njump = \"totp\"\n",
        hop.port()
    );
    std::fs::write(place.join("config.toml"), config).unwrap();
    let seed = data_encoding::BASE32_NOPAD.encode(SEED);
    let agent = Agent::start(&[hop.client_key()]).await;
    let socket = agent.socket().display().to_string();
    let env = [("PW", user.password.as_deref().unwrap()), ("OTP", &seed), ("SSH_AUTH_SOCK", &socket)];
    let client = home.client(&env).await;
    let to = json!({"address": format!("127.0.0.1:{}", sshd.port()), "username": user.name, "password_ref": "pw",
        "totp_ref": "otp", "jump": format!("{}@127.0.0.1:{}", user.name, hop.port())});
    let opened = client.call("ssh_connect", to).await.success();
    assert_eq!(
        (hop.logged("Accepted keyboard-interactive/pam"), &opened["auth_method"]),
        (1, &json!("keyboard-interactive"))
    );
}

#[tokio::test]
async fn session_that_cost_a_code_goes_on_without_a_person_until_its_connection_is_lost() {
    let Some((_service, _directory, sshd)) = of_codes("", KEY_THEN_QUESTIONS).await else { return };
    let (home, user, now) = (Home::new(), &sshd.user().name, step_now());
    let human = typed(&[now, now + 1]);
    let client = client(&home, &human, false).await;
    let to = by_key(&sshd, user, json!({}));
    let opened = client.call_and_answer("ssh_connect", to.clone()).await.success();
    let id = json!({"session_id": opened["session_id"]});
    let forward = json!({"local_port": 0, "remote_address": "127.0.0.1", "remote_port": sshd.port()});
    let forward = client.call("ssh_forward", with(forward, id.clone())).await.success();
    let banner = read_banner(&text(&forward["local_address"])).await;
    assert!(banner.starts_with("SSH-2.0"), "{banner}");
    assert_eq!((sshd.logged("Accepted keyboard-interactive/pam"), human.asked().len()), (1, 1));

    sshd.signal_connections("KILL");
    let run = with(json!({"command": "echo here"}), id.clone());
    let mut lost = client.call("ssh_execute", run.clone()).await;
    eventually("the loss is noticed", async || {
        lost = client.call("ssh_execute", run.clone()).await;
        lost.is_error
    })
    .await;
    assert!(["auth_failed", "session_closed"].contains(&lost.code()), "{}", lost.text);
    assert!(text(&lost.structured["hint"]).contains("ssh_connect"), "{}", lost.text);
    let opened = client.call_and_answer("ssh_connect", with(to, id)).await.success();
    assert_eq!((&opened["reuse_refused"], human.asked().len()), (&json!("dead"), 2));
    let run = json!({"session_id": opened["session_id"], "command": "echo here"});
    assert_eq!(client.call("ssh_execute", run).await.success()["stdout"], "here\n");
}

#[tokio::test]
async fn a_jump_host_with_pam_asks_a_person_for_its_code() {
    let Some((_service, _directory, hop)) = of_codes("", KEY_THEN_QUESTIONS).await else { return };
    let Some(sshd) = Sshd::start().await else { return };
    let (home, user) = (Home::new(), &sshd.user().name);
    let agent = Agent::start(&[hop.client_key()]).await;
    let human = typed(&[step_now()]);
    let socket = agent.socket().display().to_string();
    let env = [("HOME", home.path().to_str().unwrap()), ("SSH_KEY_ROOTS", "/"), ("SSH_AUTH_SOCK", &socket)];
    let client = McpClient::stdio_with(&env, &human, true).await;
    let jump = format!("{user}@127.0.0.1:{}", hop.port());
    client.call_and_answer("ssh_connect", by_key(&sshd, user, json!({"jump": jump}))).await.success();
    let message = text(&human.asked()[0]["message"]);
    assert!(message.contains(&format!("jump host {jump} (hop 1 of 1 on the way to")), "{message}");
    assert!(Path::new(sshd.client_key()).exists());
}

async fn read_banner(address: &str) -> String {
    use tokio::io::AsyncReadExt;
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut bytes = [0; 7];
    crate::support::wait::bounded("a banner", socket.read_exact(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
