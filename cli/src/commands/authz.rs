//! `weft authz`: who may do what at a service, in the order in which its sidecars decide.
//!
//! The control plane's answer comes in; a table for each port goes out, or JSON. What a rule means is said in words
//! below the table, so that nobody must know the order by heart.

use serde::Serialize;
use weft_proto::api::{AuthzDefault, AuthzPort, AuthzRequest, AuthzRule};

use crate::{client, command::AuthzArgs, commands::in_namespace, output};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortView {
    service_port: String,
    /// The other service ports behind which the servers stand of which this is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also_behind: Vec<String>,
    rules: Vec<RuleView>,
    default: DefaultView,
    /// As it would be if the policies in Audit mode were enforced; absent when that is no different.
    #[serde(skip_serializing_if = "Option::is_none")]
    audited_default: Option<DefaultView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleView {
    level: String,
    rule: String,
    action: &'static str,
    audit: bool,
    from: String,
    to: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DefaultView {
    action: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    policy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    level: String,
}

const fn action(deny: bool) -> &'static str {
    if deny { "Deny" } else { "Allow" }
}

impl From<AuthzRule> for RuleView {
    fn from(rule: AuthzRule) -> Self {
        Self {
            level: rule.level,
            rule: rule.rule,
            action: action(rule.deny),
            audit: rule.audit,
            from: rule.from,
            to: rule.to,
        }
    }
}

impl From<AuthzDefault> for DefaultView {
    fn from(default: AuthzDefault) -> Self {
        Self { action: action(default.deny), policy: default.policy, level: default.level }
    }
}

impl From<AuthzPort> for PortView {
    fn from(port: AuthzPort) -> Self {
        let default = DefaultView::from(port.enforced.unwrap_or_default());
        let audited = DefaultView::from(port.audited.unwrap_or_default());
        Self {
            service_port: port.service_port,
            also_behind: port.also_behind,
            rules: port.rules.into_iter().map(RuleView::from).collect(),
            audited_default: (audited != default).then_some(audited),
            default,
        }
    }
}

pub(crate) async fn authz(args: AuthzArgs) -> anyhow::Result<()> {
    let mut client = client::connect(&args.api).await?;
    let mut service = in_namespace(&args.service, args.namespace.as_deref());
    if let Some(port) = args.port {
        service = format!("{service}:{port}");
    }
    let answer = client.authz(AuthzRequest { service }).await.map_err(client::refused)?;
    let ports: Vec<PortView> = answer.into_inner().ports.into_iter().map(PortView::from).collect();
    if let Some(printed) = output::print_structured(args.format.output, &ports) {
        return printed;
    }
    let texts: Vec<String> = ports.iter().map(text).collect();
    output::print(&texts.join("\n"))
}

/// A port's rules and defaults, each with its place in the order.
fn text(port: &PortView) -> String {
    let mut table = output::table(&["order", "action", "from", "to", "policy", "level"]);
    for (index, rule) in port.rules.iter().enumerate() {
        let audit = if rule.audit { " (audit)" } else { "" };
        table.add_row([
            (index + 1).to_string(),
            format!("{}{audit}", rule.action),
            rule.from.clone(),
            rule.to.clone(),
            rule.rule.clone(),
            rule.level.clone(),
        ]);
    }
    table.add_row(default_row("default", &port.default, ""));
    if let Some(audited) = &port.audited_default {
        table.add_row(default_row("default", audited, " (audit)"));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    let others = match &port.also_behind[..] {
        [] => String::new(),
        others => format!(", at the servers that stand behind {} as well", others.join(" and ")),
    };
    let lines = lines.collect::<String>();
    format!("{}{others}\n{lines}{}\n", port.service_port, explanation(port))
}

fn default_row(order: &str, default: &DefaultView, audit: &str) -> [String; 6] {
    let or =
        |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    [
        order.to_owned(),
        format!("{}{audit}", default.action),
        "everybody else".to_owned(),
        "everything else".to_owned(),
        or(&default.policy, "(no policy says it)"),
        or(&default.level, "-"),
    ]
}

/// How the rows are to be read.
fn explanation(port: &PortView) -> String {
    let mut text = match (port.rules.is_empty(), port.default.action) {
        (true, "Allow") => "No rule holds: everybody may do everything.".to_owned(),
        (true, _) => "No rule holds: nobody may do anything.".to_owned(),
        (false, _) => "The first row that takes a request decides; a rule that denies always comes before one that \
                       allows."
            .to_owned(),
    };
    if port.rules.iter().any(|rule| rule.audit) || port.audited_default.is_some() {
        text.push_str(" Rows with (audit) decide nothing: they are counted where they would deny.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(rules: Vec<RuleView>, action: &'static str) -> PortView {
        let default = DefaultView {
            action,
            policy: "AccessPolicy shop/cart".into(),
            level: "Service shop/cart".into(),
        };
        PortView {
            service_port: "shop/cart:80".into(),
            also_behind: Vec::new(),
            rules,
            default,
            audited_default: None,
        }
    }

    #[test]
    fn rules_stand_in_the_order_in_which_they_decide_and_the_default_last() {
        let rule = |action, audit, from: &str| RuleView {
            level: "Service shop/cart".into(),
            rule: "AccessPolicy shop/cart rules[0]".into(),
            action,
            audit,
            from: from.into(),
            to: "everything".into(),
        };
        let text = text(&port(
            vec![rule("Deny", true, "from 10.0.0.0/8"), rule("Allow", false, "shop/web")],
            "Deny",
        ));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "shop/cart:80");
        assert!(lines[1].starts_with("ORDER    ACTION        FROM"), "{text}");
        assert!(lines[2].starts_with("1        Deny (audit)  from 10.0.0.0/8"), "{text}");
        assert!(lines[3].starts_with("2        Allow         shop/web"), "{text}");
        assert!(lines[4].starts_with("default  Deny          everybody else"), "{text}");
        assert!(lines[5].contains("The first row that takes a request decides"), "{text}");
        assert!(lines[5].contains("Rows with (audit) decide nothing"), "{text}");
    }

    #[test]
    fn servers_behind_several_services_are_told_apart() {
        let mut port = port(vec![], "Deny");
        port.also_behind = vec!["shop/cart-v1:80".into(), "shop/all:80".into()];
        let expected = "shop/cart:80, at the servers that stand behind shop/cart-v1:80 and shop/all:80 as well\n";
        assert!(text(&port).starts_with(expected), "{}", text(&port));
    }

    #[test]
    fn a_port_without_rules_says_what_that_means() {
        assert!(explanation(&port(vec![], "Allow")).contains("everybody may do everything"));
        assert!(explanation(&port(vec![], "Deny")).contains("nobody may do anything"));
    }
}
