//! Every keyword: what it takes, and what is done about it.

use super::{
    algorithms::AlgorithmEdit,
    apply,
    error::Problem,
    options::{Options, Slot, Statement},
    value::yes_or_no,
};

/// The place of a value.
type Place<T> = fn(&mut Options) -> &mut Slot<T>;

/// What a keyword does.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Host,
    Match,
    Include,
    Flag(Place<bool>),
    Text(Place<String>),
    /// The whole rest of the line.
    Command(Place<String>),
    Count(Place<u32>),
    Time(Place<u64>),
    Algorithms(Place<AlgorithmEdit>),
    List(Place<Vec<String>>),
    Own(fn(&mut Options, &mut Statement<'_>) -> Result<(), Problem>),
    /// Understood, not followed.
    Unused(Check, Report),
}

/// How the value of an unused keyword is checked: `ssh` refuses the whole file for a bad one.
#[derive(Clone, Copy)]
pub(super) enum Check {
    Flag,
    Word,
    Count,
    Time,
    Command,
    Anything,
}

/// What is said about an unused keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It changes nothing of what is done here.
    Never,
    /// It was asked for and is not done.
    Ignored,
    /// It is not done on purpose.
    Refused,
}

use Check::{Anything, Count as Number, Flag as YesNo, Time as Duration, Word};
use Kind::{Algorithms, Command, Count, Flag, Host, Include, List, Match, Own, Text, Time, Unused};
use Report::{Ignored, Never, Refused};

/// By name, in lower case. Several names for one thing are OpenSSH's own.
const KEYWORDS: &[(&str, Kind)] = &[
    ("host", Host),
    ("match", Match),
    ("include", Include),
    ("hostname", Text(|o| &mut o.host_name)),
    ("port", Own(apply::port)),
    ("user", Text(|o| &mut o.user)),
    ("identityfile", Own(apply::identity_file)),
    ("identityfile2", Own(apply::identity_file)),
    ("certificatefile", Own(apply::certificate_file)),
    ("identitiesonly", Flag(|o| &mut o.identities_only)),
    ("identityagent", Own(apply::identity_agent)),
    ("addkeystoagent", Own(apply::add_keys_to_agent)),
    ("proxyjump", Own(apply::proxy_jump)),
    ("proxycommand", Command(|o| &mut o.proxy_command)),
    ("hostkeyalias", Text(|o| &mut o.host_key_alias)),
    ("stricthostkeychecking", Own(|o, s| s.choice(&mut o.strict_host_key_checking))),
    ("userknownhostsfile", List(|o| &mut o.user_known_hosts)),
    ("globalknownhostsfile", List(|o| &mut o.global_known_hosts)),
    ("revokedhostkeys", Text(|o| &mut o.revoked_host_keys)),
    ("knownhostscommand", Unused(Check::Command, Refused)),
    ("hashknownhosts", Flag(|o| &mut o.hash_known_hosts)),
    ("checkhostip", Flag(|o| &mut o.check_host_ip)),
    ("preferredauthentications", Text(|o| &mut o.preferred_authentications)),
    ("pubkeyauthentication", Own(|o, s| s.choice(&mut o.pubkey_authentication))),
    ("dsaauthentication", Own(|o, s| s.choice(&mut o.pubkey_authentication))),
    ("passwordauthentication", Flag(|o| &mut o.password_authentication)),
    ("kbdinteractiveauthentication", Flag(|o| &mut o.kbd_interactive_authentication)),
    ("challengeresponseauthentication", Flag(|o| &mut o.kbd_interactive_authentication)),
    ("skeyauthentication", Flag(|o| &mut o.kbd_interactive_authentication)),
    ("tisauthentication", Flag(|o| &mut o.kbd_interactive_authentication)),
    ("numberofpasswordprompts", Count(|o| &mut o.number_of_password_prompts)),
    ("batchmode", Flag(|o| &mut o.batch_mode)),
    ("connecttimeout", Time(|o| &mut o.connect_timeout)),
    ("connectionattempts", Own(apply::connection_attempts)),
    ("serveraliveinterval", Time(|o| &mut o.server_alive_interval)),
    ("protocolkeepalives", Time(|o| &mut o.server_alive_interval)),
    ("setuptimeout", Time(|o| &mut o.server_alive_interval)),
    ("serveralivecountmax", Count(|o| &mut o.server_alive_count_max)),
    ("tcpkeepalive", Flag(|o| &mut o.tcp_keep_alive)),
    ("keepalive", Flag(|o| &mut o.tcp_keep_alive)),
    ("compression", Own(compression)),
    ("ciphers", Algorithms(|o| &mut o.ciphers)),
    ("macs", Algorithms(|o| &mut o.macs)),
    ("kexalgorithms", Algorithms(|o| &mut o.kex_algorithms)),
    ("hostkeyalgorithms", Algorithms(|o| &mut o.host_key_algorithms)),
    ("pubkeyacceptedalgorithms", Algorithms(|o| &mut o.pubkey_accepted_algorithms)),
    ("pubkeyacceptedkeytypes", Algorithms(|o| &mut o.pubkey_accepted_algorithms)),
    ("rekeylimit", Own(apply::rekey_limit)),
    ("bindaddress", Text(|o| &mut o.bind_address)),
    ("addressfamily", Own(|o, s| s.choice(&mut o.address_family))),
    ("sendenv", Own(apply::send_env)),
    ("setenv", Own(apply::set_env)),
    ("remotecommand", Unused(Check::Command, Refused)),
    ("requesttty", Own(|o, s| s.choice(&mut o.request_tty))),
    ("forwardagent", Own(apply::forward_agent)),
    ("localforward", Own(apply::local_forward)),
    ("clearallforwardings", Flag(|o| &mut o.clear_all_forwardings)),
    ("canonicalizehostname", Own(|o, s| s.choice(&mut o.canonicalize_hostname))),
    ("canonicaldomains", Own(apply::canonical_domains)),
    ("canonicalizemaxdots", Count(|o| &mut o.canonicalize_max_dots)),
    ("canonicalizefallbacklocal", Flag(|o| &mut o.canonicalize_fallback_local)),
    ("ignoreunknown", Text(|o| &mut o.ignore_unknown)),
    // What changes who is reached, who is trusted or what is done: said when it was asked for.
    ("canonicalizepermittedcnames", Unused(Anything, Ignored)),
    ("bindinterface", Unused(Word, Ignored)),
    ("casignaturealgorithms", Unused(Word, Ignored)),
    ("dynamicforward", Unused(Anything, Ignored)),
    ("forwardx11", Unused(YesNo, Ignored)),
    ("gssapiauthentication", Unused(YesNo, Ignored)),
    ("gssapidelegatecredentials", Unused(YesNo, Ignored)),
    ("gssapikeyexchange", Unused(YesNo, Ignored)),
    ("hostbasedauthentication", Unused(YesNo, Ignored)),
    ("kbdinteractivedevices", Unused(Word, Ignored)),
    ("localcommand", Unused(Check::Command, Ignored)),
    ("nohostauthenticationforlocalhost", Unused(YesNo, Refused)),
    ("permitremoteopen", Unused(Anything, Ignored)),
    ("pkcs11provider", Unused(Word, Ignored)),
    ("smartcarddevice", Unused(Word, Ignored)),
    ("proxyusefdpass", Unused(YesNo, Ignored)),
    ("remoteforward", Unused(Anything, Ignored)),
    ("requiredrsasize", Unused(Number, Ignored)),
    ("securitykeyprovider", Unused(Word, Ignored)),
    ("sessiontype", Unused(Word, Ignored)),
    ("tunnel", Unused(Word, Ignored)),
    ("verifyhostkeydns", Unused(Word, Ignored)),
    // Later than OpenSSH 9.2, or Apple's: `ssh` 9.2 refuses the file, a later one does not.
    ("channeltimeout", Unused(Anything, Ignored)),
    ("obscurekeystroketiming", Unused(Anything, Never)),
    ("refuseconnection", Unused(Anything, Ignored)),
    ("tag", Unused(Word, Ignored)),
    ("usekeychain", Unused(YesNo, Ignored)),
    ("versionaddendum", Unused(Anything, Never)),
    ("warnweakcrypto", Unused(Anything, Never)),
    // What only concerns a terminal, a log, or sharing connections between processes of `ssh`.
    ("controlmaster", Unused(Word, Never)),
    ("controlpath", Unused(Word, Never)),
    ("controlpersist", Unused(Word, Never)),
    ("enableescapecommandline", Unused(YesNo, Never)),
    ("enablesshkeysign", Unused(YesNo, Never)),
    ("escapechar", Unused(Word, Never)),
    ("exitonforwardfailure", Unused(YesNo, Never)),
    ("fingerprinthash", Unused(Word, Never)),
    ("forkafterauthentication", Unused(YesNo, Never)),
    ("forwardx11timeout", Unused(Duration, Never)),
    ("forwardx11trusted", Unused(YesNo, Never)),
    ("gatewayports", Unused(YesNo, Never)),
    ("gssapiclientidentity", Unused(Word, Never)),
    ("gssapikexalgorithms", Unused(Word, Never)),
    ("gssapirenewalforcesrekey", Unused(YesNo, Never)),
    ("gssapiserveridentity", Unused(Word, Never)),
    ("gssapitrustdns", Unused(YesNo, Never)),
    ("hostbasedacceptedalgorithms", Unused(Word, Never)),
    ("hostbasedkeytypes", Unused(Word, Never)),
    ("ipqos", Unused(Anything, Never)),
    ("loglevel", Unused(Word, Never)),
    ("logverbose", Unused(Anything, Never)),
    ("permitlocalcommand", Unused(YesNo, Never)),
    ("stdinnull", Unused(YesNo, Never)),
    ("streamlocalbindmask", Unused(Word, Never)),
    ("streamlocalbindunlink", Unused(YesNo, Never)),
    ("syslogfacility", Unused(Word, Never)),
    ("tunneldevice", Unused(Word, Never)),
    ("updatehostkeys", Unused(Word, Never)),
    ("visualhostkey", Unused(YesNo, Never)),
    ("xauthlocation", Unused(Word, Never)),
    // What OpenSSH has dropped and passes over.
    ("afstokenpassing", Unused(Anything, Never)),
    ("cipher", Unused(Anything, Never)),
    ("compressionlevel", Unused(Anything, Never)),
    ("fallbacktorsh", Unused(Anything, Never)),
    ("globalknownhostsfile2", Unused(Anything, Never)),
    ("kerberosauthentication", Unused(Anything, Never)),
    ("kerberostgtpassing", Unused(Anything, Never)),
    ("protocol", Unused(Anything, Never)),
    ("rhostsauthentication", Unused(Anything, Never)),
    ("rhostsrsaauthentication", Unused(Anything, Never)),
    ("rsaauthentication", Unused(Anything, Never)),
    ("useblacklistedkeys", Unused(Anything, Never)),
    ("useprivilegedport", Unused(Anything, Never)),
    ("userknownhostsfile2", Unused(Anything, Never)),
    ("useroaming", Unused(Anything, Never)),
    ("usersh", Unused(Anything, Never)),
];

/// The keyword of a name in lower case.
pub(super) fn find(name: &str) -> Option<(&'static str, Kind)> {
    KEYWORDS.iter().find(|(keyword, _)| *keyword == name).copied()
}

/// What is said about a keyword that is not followed.
pub(super) fn report(name: &str) -> Report {
    match find(name) {
        Some((_, Unused(_, report))) => report,
        Some(("addkeystoagent", _)) => Ignored,
        _ => Never,
    }
}

/// Whether the value is a command line, which may hold a secret.
pub(super) fn is_command(name: &str) -> bool {
    matches!(find(name), Some((_, Unused(Check::Command, _))))
}

fn compression(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let value = yes_or_no(s.word()?)?;
    s.fill(&mut options.compression, value);
    Ok(())
}
