//! How a session logs in: what the caller says, then what the configuration of `ssh` says.

use std::sync::Arc;

use super::{
    App, Asking, ConnectRequest, TypedAnswer,
    connect::Role,
    plan::{Step, said},
};
use crate::secret::named::{JumpUse, SecretError};
use crate::ssh::{
    Error,
    client::{
        Credentials, KeyFile,
        login::{AgentUse, Given, Identity, LoginPlan, Method},
    },
    ssh_config::{KeyPath, PubkeyAuthentication, Resolved},
};

/// Longest password, in bytes; sshd takes no longer one (`MAX_PASSWORD_LEN`).
const MAX_PASSWORD_BYTES: usize = 1024;

impl App {
    /// Judges what is said about secrets; the log masks the one that came along from here on.
    pub(super) fn check_secrets(&self, request: &ConnectRequest) -> Result<(), Error> {
        if let Some(password) = &request.password {
            let bytes = password.expose().len();
            if bytes > MAX_PASSWORD_BYTES {
                return Err(Error::TooLong { field: "password", bytes, limit: MAX_PASSWORD_BYTES });
            }
            if request.password_ref.is_some() {
                return Err(Error::ConflictingSecrets);
            }
            self.settings.secrets.live.watch(password).map_err(SecretError::from)?;
        }
        for typed in &request.answers {
            self.settings.secrets.live.watch(&typed.answered.answer).map_err(SecretError::from)?;
        }
        match (&request.passphrase_ref, &request.key_path) {
            (Some(_), None) => Err(Error::PassphraseWithoutKey),
            _ => Ok(()),
        }
    }

    pub(super) async fn credentials(
        &self,
        request: &ConnectRequest,
        step: &Step,
        role: Role,
    ) -> Result<Credentials, Error> {
        let plan = self.login_plan(request, step, role).await?;
        plan.prepare().await.map_err(|error| Error::Client(Arc::new(error), 0))
    }

    /// A password goes first, else the key file that is named and no other; then what the configuration says.
    async fn login_plan(&self, request: &ConnectRequest, step: &Step, role: Role) -> Result<LoginPlan, Error> {
        let mut plan = self.configured_login(step);
        let hop = match role {
            Role::Hop(at) => Some(at),
            Role::End => None,
        };
        let asking = Asking { target: step.target.clone(), hop };
        // A passphrase is for its file. What a server asks is answered to the server that asked.
        let is_for_it = |typed: &&TypedAnswer| typed.to.as_ref().is_none_or(|to| *to == asking);
        plan.answers = request.answers.iter().filter(is_for_it).map(|typed| typed.answered.clone()).collect();
        let (ssh, secrets, target) = (&self.settings.ssh, &self.settings.secrets, &step.target);
        if hop.is_some() {
            plan.password = secrets.for_jump(JumpUse::Password, &target.host, target.port).await?;
            plan.totp = secrets.for_jump(JumpUse::Totp, &target.host, target.port).await?;
            return Ok(plan);
        }
        let named = async |name: &Option<String>| match name {
            Some(name) => secrets.get(name, &target.host, target.port).await.map(Some),
            None => Ok(None),
        };
        plan.password = match &request.password {
            Some(password) => Some(password.clone()),
            None => named(&request.password_ref).await?,
        };
        plan.totp = named(&request.totp_ref).await?;
        if plan.password.is_some() {
            plan.methods = Method::PASSWORD_FIRST.to_vec();
        }
        if let Some(path) = &request.key_path {
            let given = if plan.password.is_some() { Given::Beside } else { Given::ByCall };
            let passphrase = named(&request.passphrase_ref).await?;
            let (path, home, roots) = (path.clone(), ssh.home.clone(), ssh.key_roots.clone());
            plan.identities = vec![Identity { file: KeyFile { path, passphrase, home, roots }, given }];
            plan.identities_only = true;
            plan.agent = AgentUse::Off;
        }
        Ok(plan)
    }

    fn configured_login(&self, step: &Step) -> LoginPlan {
        let (ssh, resolved) = (&self.settings.ssh, &step.resolved);
        let key = |path: &KeyPath| KeyFile {
            path: path.path.to_string_lossy().into_owned(),
            passphrase: None,
            home: None,
            roots: Vec::new(),
        };
        let named = resolved.identity_files.iter().filter(|file| said(file));
        let named: Vec<_> = named.map(|file| Identity { file: key(&file.value), given: Given::ByConfig }).collect();
        // `IdentityFile none` leaves none; where nothing is said the usual ones are there.
        let usual = resolved.identity_files.iter().any(|file| !said(file));
        let identities = if usual { LoginPlan::default_identities(ssh.home.as_deref(), &ssh.key_roots) } else { named };
        LoginPlan {
            methods: methods(resolved),
            identities,
            certificates: resolved.certificate_files.iter().map(|file| file.value.path.clone()).collect(),
            identities_only: resolved.identities_only.value,
            algorithms: self.algorithms_of(step),
            worked: self.worked_keys.clone(),
            ..LoginPlan::new(self.agent_of(resolved))
        }
    }
}

/// `PreferredAuthentications`, without what is switched off.
fn methods(resolved: &Resolved) -> Vec<Method> {
    let preferred = resolved.preferred_authentications.as_ref();
    let order = match preferred {
        Some(names) => names.value.iter().filter_map(|name| Method::parse(name)).collect(),
        None => Method::ORDER.to_vec(),
    };
    let on = |method: &Method| match method {
        Method::PublicKey => resolved.pubkey_authentication.value != PubkeyAuthentication::No,
        Method::KeyboardInteractive => resolved.kbd_interactive_authentication.value,
        Method::Password => resolved.password_authentication.value && resolved.number_of_password_prompts.value > 0,
    };
    order.into_iter().filter(on).collect()
}
