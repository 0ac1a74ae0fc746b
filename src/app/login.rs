//! What a caller said about logging in, as a plan.

use std::sync::Arc;

use super::{App, ConnectRequest};
use crate::ssh::{
    Error,
    client::{
        Credentials, KeyFile, Target,
        login::{AgentUse, Given, Identity, LoginPlan, Method},
    },
};

/// Longest password, in bytes; sshd takes no longer one (`MAX_PASSWORD_LEN`).
const MAX_PASSWORD_BYTES: usize = 1024;

impl App {
    /// Judges what is said about secrets; the log masks the one that came along from here on.
    pub(super) fn check_secrets(&self, request: &ConnectRequest) -> Result<(), Error> {
        if let Some(password) = &request.password {
            self.settings.secrets.live.watch(password);
            let bytes = password.expose().len();
            if bytes > MAX_PASSWORD_BYTES {
                return Err(Error::TooLong { field: "password", bytes, limit: MAX_PASSWORD_BYTES });
            }
            if request.password_ref.is_some() {
                return Err(Error::ConflictingSecrets);
            }
        }
        for answered in &request.answers {
            self.settings.secrets.live.watch(&answered.answer);
        }
        match (&request.passphrase_ref, &request.key_path) {
            (Some(_), None) => Err(Error::PassphraseWithoutKey),
            _ => Ok(()),
        }
    }

    pub(super) async fn credentials(&self, request: &ConnectRequest, target: &Target) -> Result<Credentials, Error> {
        let plan = self.login_plan(request, target).await?;
        plan.prepare().await.map_err(|error| Error::Client(Arc::new(error), 0))
    }

    /// A password goes first, else the key file that is named and no other, else the agent and the usual key files.
    async fn login_plan(&self, request: &ConnectRequest, target: &Target) -> Result<LoginPlan, Error> {
        let ssh = &self.settings.ssh;
        let named = async |name: &Option<String>| match name {
            Some(name) => self.settings.secrets.get(name, &target.host, target.port).await.map(Some),
            None => Ok(None),
        };
        let mut plan = LoginPlan::new(AgentUse::OfEnvironment(ssh.agent_socket.clone()));
        plan.password = match &request.password {
            Some(password) => Some(password.clone()),
            None => named(&request.password_ref).await?,
        };
        plan.totp = named(&request.totp_ref).await?;
        plan.answers = request.answers.clone();
        plan.worked = self.worked_keys.clone();
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
        } else {
            plan.identities = LoginPlan::default_identities(ssh.home.as_deref(), &ssh.key_roots);
        }
        Ok(plan)
    }
}
